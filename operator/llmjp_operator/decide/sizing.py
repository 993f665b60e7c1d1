"""Memory and disk that building and serving need, by the arithmetic of `llmjp plan`. Pure.

The builder's planning reads config.json only, no weights. A kind of GPU that it does not know is no
obstacle.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from llmjp_builder.contracts.errors import BuilderError, UnsupportedGpu
from llmjp_builder.contracts.judgement.model import require_served_model
from llmjp_builder.contracts.spec import Backend, Kind, to_canonical_json
from llmjp_builder.convert.model_config import parse_model_config
from llmjp_builder.planning.capacity import plan_capacity
from llmjp_builder.planning.fit import FitVerdict
from llmjp_builder.planning.gpus import GPU_TYPES, find_gpu_type
from llmjp_builder.planning.models import PlannedModel
from llmjp_builder.planning.request import PlanRequest
from llmjp_operator.decisions import ResourceEstimate

if TYPE_CHECKING:
    from llmjp_builder.contracts.spec import Resolution
    from llmjp_builder.planning.capacity import CapacityPlan
    from llmjp_builder.planning.divisions import Division
    from llmjp_builder.planning.gpus import GpuType
    from llmjp_operator.api import Spec

_GIB: Final = 1 << 30
_RUNTIME_BYTES: Final = 2 * _GIB
"""Python, Triton and its stubs, libraries; per rank, CUDA's part of host memory comes on top."""
_CUDA_BYTES: Final = 2 * _GIB


def estimate_resources(spec: Spec, resolution: Resolution) -> ResourceEstimate:
    """Return the needs of a model whose source is pinned."""
    return _estimate(
        _SizedSpec.of(spec), to_canonical_json(dict(resolution.config)), resolution.bytes
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _SizedSpec:
    """The part of a spec that decides sizes; hashable."""

    backend: Backend
    request: PlanRequest
    product: str | None
    quantization: str

    @classmethod
    def of(cls, spec: Spec) -> _SizedSpec:
        """Return the part of a spec that decides sizes."""
        engine, hardware = spec.engine, spec.hardware
        gpu = _find_known_gpu(hardware.gpu_product)
        request = PlanRequest(
            **engine.layout.to_fields(),
            gpus=(gpu,) if gpu else GPU_TYPES,
            max_seq_len=engine.max_seq_len,
            max_batch_size=engine.max_batch_size,
            concurrency=1,
            gpus_per_node=256,
        )
        return cls(
            backend=engine.backend,
            request=request,
            product=hardware.gpu_product if gpu else None,
            quantization=engine.quantization,
        )


def _find_known_gpu(product: str | None) -> GpuType | None:
    try:
        return None if product is None else find_gpu_type(product)
    except UnsupportedGpu:
        return None


@functools.lru_cache(maxsize=4096)
def _estimate(sized: _SizedSpec, config: str, source_bytes: int) -> ResourceEstimate:
    document = json.loads(config)
    try:
        require_served_model(document, "config.json", sized.backend)
        model = PlannedModel(
            name="the checkpoint",
            config=parse_model_config(document, "config.json"),
            source_bytes=source_bytes,
        )
        capacity = plan_capacity(model, sized.request)
    except BuilderError as exc:
        return ResourceEstimate(refusal=str(exc))
    if not capacity.divisions:
        return ResourceEstimate(refusal=capacity.refused[0].reason)
    division, engine = capacity.divisions[0], sized.backend.kind is Kind.ENGINE
    needs = division.build.engine if engine else division.build.ranks
    return ResourceEstimate(
        memory_bytes=needs.memory_bytes,
        disk_bytes=needs.disk_bytes,
        serving_memory_bytes=_estimate_serving_memory(sized, division),
        refusal=_find_refusal(sized, capacity),
    )


def _find_refusal(sized: _SizedSpec, capacity: CapacityPlan) -> str | None:
    """Return why the model does not fit the GPU that the spec names; None where it may."""
    if sized.product is None or not capacity.gpus:
        return None
    gpu = capacity.gpus[0]
    misfit = next((fit for fit in gpu.fits if fit.verdict in _DOES_NOT_FIT), None)
    return gpu.refusal or (None if misfit is None else f"on {sized.product}: {misfit.reason}")


_DOES_NOT_FIT: Final = frozenset({FitVerdict.WEIGHTS_TOO_LARGE, FitVerdict.NO_SEQUENCE})


def _estimate_serving_memory(sized: _SizedSpec, division: Division) -> int:
    """Return the host memory of a pod that serves.

    Weights pass through it on their way to a GPU. Without one they stay there, as float32, and so
    do keys and values.
    """
    if sized.backend is not Backend.TORCH or sized.product is not None:
        return _RUNTIME_BYTES + division.world * _CUDA_BYTES
    weights = sum(division.weights_bytes_per_rank) * (2 if sized.quantization == "none" else 4)
    per_token = sum(division.kv_bytes_per_token_per_rank) * 2
    seq = sized.request.max_seq_len or 0
    return _RUNTIME_BYTES + weights + per_token * seq * min(sized.request.max_batch_size, 8)
