"""The request that a plan answers. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmjp_builder.contracts.errors import InvalidSpec
from llmjp_builder.contracts.spec import Backend, LayoutOptions
from llmjp_builder.planning.gpus import GPU_TYPES, GpuType

_MAX_PER_NODE = 256
"""The most ranks that a conversion makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """The build to plan for and the machines at hand; a value of None is searched for."""

    gpus: tuple[GpuType, ...] = GPU_TYPES
    backend: Backend | None = None
    """Who will serve the model; None refuses only what none of them serves."""
    tensor_parallel: int | None = None
    pipeline_parallel: int | None = None
    """With a tensor_parallel, None means 1, as for a conversion."""
    dtype: Literal["auto", "bfloat16", "float16"] = "auto"
    quantization: Literal["none", "fp8"] = "none"
    kv_cache: Literal["auto", "fp8"] = "auto"
    embedding_sharding_dim: int | None = None
    pad_intermediate: int = 0
    max_seq_len: int | None = None
    """Prompt and reply, in tokens; None means the length that the model was trained for."""
    max_batch_size: int = 64
    """Requests that the engine works on at once."""
    concurrency: int = 8
    """Sequences of full length that must fit at once for a division to count as working; capped
    at `max_batch_size`."""
    gpus_per_node: int = 8
    """One model is served from one node."""

    def __post_init__(self) -> None:
        for name in (
            "tensor_parallel",
            "pipeline_parallel",
            "max_seq_len",
            "max_batch_size",
            "concurrency",
            "gpus_per_node",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidSpec(f"{name}: must be at least 1, not {value}")
        if self.gpus_per_node > _MAX_PER_NODE:
            raise InvalidSpec(f"gpus_per_node: at most {_MAX_PER_NODE}, not {self.gpus_per_node}")
        if not self.gpus:
            raise InvalidSpec("gpus: name at least one")

    def get_layout_options(self, tensor_parallel: int, pipeline_parallel: int) -> LayoutOptions:
        """Return the options of a build divided so."""
        return LayoutOptions(
            dtype=self.dtype,
            quantization=self.quantization,
            kv_cache=self.kv_cache,
            tensor_parallel=tensor_parallel,
            pipeline_parallel=pipeline_parallel,
            pad_intermediate=self.pad_intermediate,
            embedding_sharding_dim=self.embedding_sharding_dim,
        )

    @property
    def searches(self) -> bool:
        """True where neither parallelism is given, so every division is tried."""
        return self.tensor_parallel is None and self.pipeline_parallel is None

    @property
    def sequences(self) -> int:
        """Sequences of full length that must fit at once."""
        return min(self.concurrency, self.max_batch_size)
