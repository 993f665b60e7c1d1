"""The capacity plan: what a model needs, where it fits, what is refused and why. Pure.

This module and everything it imports need the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from llmjp_builder.contracts.codec import encode
from llmjp_builder.contracts.errors import NotEnoughGpuMemory, UnsupportedGpu, UnsupportedRequest
from llmjp_builder.convert.layout import Layout, resolve_dtype
from llmjp_builder.planning.divisions import (
    Division,
    Refusal,
    list_divisions,
    list_pipeline_parallel,
    list_tensor_parallel,
)
from llmjp_builder.planning.fit import Fit, GpuPlan, plan_gpu
from llmjp_builder.planning.kv_cache import compute_bytes_per_token
from llmjp_builder.planning.weights import Parameters, count_parameters, estimate_source_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmjp_builder.convert.model_config import ModelConfig
    from llmjp_builder.planning.models import PlannedModel
    from llmjp_builder.planning.request import PlanRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityPlan:
    """Everything about serving a model that is known before it is fetched. Sizes are in bytes."""

    model: str
    parameters: Parameters
    dtype: Literal["bfloat16", "float16"]
    quantization: Literal["none", "fp8"]
    kv_cache: Literal["auto", "fp8"]
    max_seq_len: int
    max_batch_size: int
    min_sequences: int
    """Sequences of full length that must fit at once for a division to be recommended."""
    gpus_per_node: int
    kv_bytes_per_token: int
    """For the whole model."""
    tensor_parallel: tuple[int, ...]
    """Every value that works for this model and quantisation."""
    pipeline_parallel: tuple[int, ...]
    """Every value that divides its layers evenly."""
    divisions: tuple[Division, ...]
    """The requested ones, or all that fit in a node; fewest GPUs first."""
    refused: tuple[Refusal, ...]
    gpus: tuple[GpuPlan, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as a dict of JSON values; fields that are None are left out."""
        encoded: dict[str, Any] = encode(self)
        encoded["parameters"]["total"] = self.parameters.total
        return encoded

    def find_division(self, fit: Fit) -> Division:
        """Return the division that `fit` judges."""
        wanted = (fit.tensor_parallel, fit.pipeline_parallel)
        return next(d for d in self.divisions if (d.tensor_parallel, d.pipeline_parallel) == wanted)

    def require_possible(self) -> None:
        """Raise where nothing can be served by this plan.

        Raises:
            UnsupportedRequest: the model cannot be divided as requested.
            UnsupportedGpu: none of the GPUs can run it.
            NotEnoughGpuMemory: no GPU has room for the weights and one full sequence.
        """
        if not self.divisions:
            raise UnsupportedRequest(f"{self.model}: {self.refused[0].reason}")
        if all(gpu.refusal for gpu in self.gpus):
            raise UnsupportedGpu(f"{self.model}: {self.gpus[0].refusal}")
        if not any(fit.sequences for gpu in self.gpus for fit in gpu.fits):
            raise NotEnoughGpuMemory(self._too_small())

    def _too_small(self) -> str:
        largest = max((gpu for gpu in self.gpus if gpu.fits), key=lambda gpu: gpu.usable_bytes)
        best = largest.closest
        assert best is not None, "there are divisions"
        ways = ["more GPUs per node", "GPUs with more memory"]
        ways += ["--quantization fp8"] if self.quantization == "none" else []
        return (
            f"{self.model}: does not fit on {', '.join(gpu.gpu for gpu in self.gpus)}; closest: "
            f"{best.gpus} x {largest.gpu} with tensor parallel {best.tensor_parallel}, pipeline "
            f"parallel {best.pipeline_parallel}: {best.reason}; try {', '.join(ways)}, "
            "or a smaller --max-seq-len"
        )


def plan_capacity(model: PlannedModel, request: PlanRequest) -> CapacityPlan:
    """Plan for `model`, whether anything works or not (`CapacityPlan.require_possible`).

    Raises:
        InvalidSpec: an option's value fits no model.
    """
    config = model.config
    counted = count_parameters(config, model.card_embedding)
    size = estimate_source_bytes(config) if model.source_bytes is None else model.source_bytes
    accepted, refused = list_divisions(config, counted, request, size)
    max_seq_len = request.max_seq_len or config.max_position_embeddings
    dtype = resolve_dtype(request.dtype, config.stored_dtype)
    return CapacityPlan(
        model=model.name,
        parameters=counted,
        dtype=dtype,
        quantization=request.quantization,
        kv_cache=request.kv_cache,
        max_seq_len=max_seq_len,
        max_batch_size=request.max_batch_size,
        min_sequences=request.sequences,
        gpus_per_node=request.gpus_per_node,
        kv_bytes_per_token=compute_bytes_per_token(
            config, Layout(dtype=dtype, kv_cache=request.kv_cache)
        ),
        tensor_parallel=list_tensor_parallel(config, request),
        pipeline_parallel=list_pipeline_parallel(config),
        divisions=accepted,
        refused=refused,
        gpus=tuple(plan_gpu(gpu, accepted, request, max_seq_len) for gpu in request.gpus),
        warnings=tuple(_list_warnings(config, request, max_seq_len)),
    )


def _list_warnings(config: ModelConfig, request: PlanRequest, max_seq_len: int) -> Iterator[str]:
    positions = config.max_position_embeddings
    if max_seq_len > positions and config.rope_scaling is None:
        yield (
            f"--max-seq-len {max_seq_len} is more than the {positions} positions that the model "
            "was trained for: text beyond them will be wrong"
        )
    if request.quantization == "fp8" and request.kv_cache == "auto":
        yield "--kv-cache fp8 would double the room for requests"
