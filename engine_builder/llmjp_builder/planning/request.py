"""What a plan is asked for, as values. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmjp_builder.contracts.errors import InvalidSpec
from llmjp_builder.planning.gpus import GPU_TYPES, GpuType

_MAX_PER_NODE = 256
"""As many ranks as a conversion makes at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The wanted build and the machines at hand; what is None is searched for."""

    gpus: tuple[GpuType, ...] = GPU_TYPES
    tensor_parallel: int | None = None
    pipeline_parallel: int | None = None
    """None beside a tensor_parallel is 1, as for a conversion."""
    dtype: Literal["auto", "bfloat16", "float16"] = "auto"
    quantization: Literal["none", "fp8"] = "none"
    kv_cache: Literal["auto", "fp8"] = "auto"
    embedding_sharding_dim: int | None = None
    pad_intermediate: int = 0
    max_seq_len: int | None = None
    """Prompt and reply, in tokens; None is what the model was trained for."""
    max_batch_size: int = 64
    """Requests that the engine works on at once."""
    concurrency: int = 8
    """Sequences of full length that have to fit at once for a layout to count as working; never
    more than `max_batch_size`."""
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

    @property
    def searches(self) -> bool:
        """Whether any layout will do."""
        return self.tensor_parallel is None and self.pipeline_parallel is None

    @property
    def sequences(self) -> int:
        """Of full length, that must fit at once."""
        return min(self.concurrency, self.max_batch_size)
