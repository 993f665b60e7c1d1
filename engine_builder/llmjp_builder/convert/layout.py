"""How a model is divided over ranks, and which divisions are possible. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from llmjp_builder.errors import InvalidSpec, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmjp_builder.convert.model_config import ModelConfig
    from llmjp_builder.spec import Dtype

MAX_WORLD = 256
"""Ranks at most: 32 nodes of 8 GPUs, far beyond what the largest llm-jp-3 needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The resolved form of a checkpoint: nothing is `auto`."""

    dtype: Dtype
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    embedding_sharding_dim: Literal[0, 1] | None = None
    """None also where one rank holds the table anyway."""

    @property
    def world(self) -> int:
        """Number of ranks; rank = stage * tensor_parallel + tp_rank."""
        return self.tensor_parallel * self.pipeline_parallel

    def layers_of(self, stage: int, num_layers: int) -> range:
        """The layers of one pipeline stage; the first stages take one more where it is uneven.

        As `Mapping.pp_layers` of TensorRT-LLM (tensorrt_llm/mapping.py) has it.
        """
        share, rest = divmod(num_layers, self.pipeline_parallel)
        begin = stage * share + min(stage, rest)
        return range(begin, begin + share + (stage < rest))


def resolve_dtype(requested: Literal["auto", "bfloat16", "float16"], stored: str | None) -> Dtype:
    """What `auto` stands for, as `infer_dtype` of TensorRT-LLM has it."""
    if requested != "auto":
        return requested
    return "bfloat16" if stored == "bfloat16" else "float16"


def layout(
    config: ModelConfig,
    *,
    dtype: Literal["auto", "bfloat16", "float16"] = "auto",
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    embedding_sharding_dim: int | None = None,
) -> Layout:
    """The layout of `config`'s model, checked.

    Raises:
        InvalidSpec: a number makes no sense for any model.
        Unsupported: this model cannot be divided so; the message names what is possible.
    """
    tp, pp, sharding = tensor_parallel, pipeline_parallel, embedding_sharding_dim
    if tp < 1 or pp < 1:
        raise InvalidSpec(f"tensor parallel {tp}, pipeline parallel {pp}: both must be at least 1")
    if sharding is not None and sharding not in {0, 1}:
        raise InvalidSpec(f"embedding sharding dimension {sharding}: must be 0 or 1")
    if tp * pp > MAX_WORLD:
        raise Unsupported(
            f"tensor parallel {tp} x pipeline parallel {pp} = {tp * pp} ranks; "
            f"at most {MAX_WORLD} are supported"
        )
    _check_tensor_parallel(config, tp, sharding)
    if pp > config.num_layers:
        raise Unsupported(f"pipeline parallel {pp}: the model has only {config.num_layers} layers")
    return Layout(
        dtype=resolve_dtype(dtype, config.stored_dtype),
        tensor_parallel=tp,
        pipeline_parallel=pp,
        embedding_sharding_dim=None if tp == 1 else sharding,  # type: ignore[arg-type]
    )


def _obstacles(config: ModelConfig, tp: int, sharding: int | None) -> Iterable[str]:
    if config.num_heads % tp:
        yield f"it does not divide {config.num_heads} attention heads"
    elif config.num_kv_heads % tp and tp % config.num_kv_heads:
        yield f"it neither divides nor is a multiple of {config.num_kv_heads} key-value heads"
    if config.intermediate_size % tp:
        yield f"it does not divide intermediate_size {config.intermediate_size}"
    if sharding == 1 and config.hidden_size % tp:
        yield f"it does not divide hidden_size {config.hidden_size}, which the embedding needs"


def _check_tensor_parallel(config: ModelConfig, tp: int, sharding: int | None) -> None:
    if obstacles := list(_obstacles(config, tp, sharding)):
        possible = (
            str(n)
            for n in range(1, min(config.num_heads, MAX_WORLD) + 1)
            if not any(_obstacles(config, n, sharding))
        )
        raise Unsupported(
            f"tensor parallel {tp}: {'; '.join(obstacles)}; possible here: {', '.join(possible)}"
        )
