"""Layouts: how a model is divided over ranks, and which divisions are possible. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from llmjp_builder.contracts.defaults import FP8_MULTIPLE, MAX_RANKS
from llmjp_builder.contracts.errors import InvalidSpec, UnsupportedRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmjp_builder.contracts.spec import Dtype, LayoutOptions
    from llmjp_builder.convert.model_config import ModelConfig

MAX_PADDING = 1 << 16
"""Multiple to pad to, at most: far beyond any width that a GEMM prefers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The resolved form of a checkpoint: nothing is `auto`."""

    dtype: Dtype
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    embedding_sharding_dim: Literal[0, 1] | None = None
    """None as well where one rank holds the whole table. Always 0 for FP8, as modelopt does it."""
    quantization: Literal["none", "fp8"] = "none"
    kv_cache: Literal["auto", "fp8"] = "auto"
    """`auto` keeps keys and values in `dtype`."""
    intermediate_padding: int = 0
    """Zeros that fill up the MLP width of each rank."""

    @property
    def world(self) -> int:
        """Number of ranks; rank = stage * tensor_parallel + tp_rank."""
        return self.tensor_parallel * self.pipeline_parallel

    def select_layers(self, stage: int, num_layers: int) -> range:
        """Return the layers of one pipeline stage; if uneven, the first stages take one more.

        As `Mapping.pp_layers` of TensorRT-LLM (tensorrt_llm/mapping.py) does:
        5 layers in 2 stages are 0, 1, 2 and 3, 4.
        """
        share, rest = divmod(num_layers, self.pipeline_parallel)
        begin = stage * share + min(stage, rest)
        return range(begin, begin + share + (stage < rest))


def resolve_dtype(requested: Literal["auto", "bfloat16", "float16"], stored: str | None) -> Dtype:
    """Return what `auto` stands for, as `infer_dtype` of TensorRT-LLM decides."""
    if requested != "auto":
        return requested
    return "bfloat16" if stored == "bfloat16" else "float16"


def resolve_layout(config: ModelConfig, options: LayoutOptions) -> Layout:
    """Resolve the options for a model, and check that it can be divided that way.

    Raises:
        InvalidSpec: the options contradict each other, whatever the model.
        UnsupportedRequest: the model cannot be divided so; the message says what is possible.
    """
    check_options(options)
    tp, pp, sharding = (
        options.tensor_parallel,
        options.pipeline_parallel,
        options.embedding_sharding_dim,
    )
    if tp * pp > MAX_RANKS:
        raise UnsupportedRequest(
            f"tensor parallel {tp} x pipeline parallel {pp} = {tp * pp} ranks; "
            f"at most {MAX_RANKS} are supported"
        )
    _check_tensor_parallel(config, tp, sharding)
    if pp > config.num_layers:
        raise UnsupportedRequest(
            f"pipeline parallel {pp}: the model has only {config.num_layers} layers"
        )
    fp8 = options.quantization == "fp8"
    if fp8:
        require_fp8_widths(config, tp, pp, options.pad_intermediate)
    unsharded = None if tp == 1 else sharding
    return Layout(
        dtype=resolve_dtype(options.dtype, config.stored_dtype),
        tensor_parallel=tp,
        pipeline_parallel=pp,
        embedding_sharding_dim=0 if fp8 else unsharded,  # type: ignore[arg-type]
        quantization=options.quantization,
        kv_cache=options.kv_cache,
        intermediate_padding=-(config.intermediate_size // tp) % max(1, options.pad_intermediate),
    )


def check_options(options: LayoutOptions) -> None:
    """Raise on options that fit no model together.

    Raises:
        InvalidSpec: the message names the option.
    """
    fp8 = options.quantization == "fp8"
    if fp8 and options.embedding_sharding_dim == 1:
        raise InvalidSpec("embedding sharding dimension 1: FP8 checkpoints divide it by vocabulary")
    if options.kv_cache == "fp8" and not fp8:
        raise InvalidSpec("kv cache fp8: it needs quantization fp8")
    if options.pad_intermediate > MAX_PADDING:
        raise InvalidSpec(
            f"intermediate padding to a multiple of {options.pad_intermediate}: "
            f"must be from 0 to {MAX_PADDING}"
        )


def require_fp8_widths(config: ModelConfig, tp: int, pp: int, pad_intermediate: int) -> None:
    """Raise unless FP8 GEMMs accept every rank's matrices.

    cuBLASLt needs both widths of an FP8 matrix to be multiples of 16.

    Raises:
        UnsupportedRequest: the message names what to do instead.
    """
    heads, kv_heads = config.num_heads // tp, max(1, config.num_kv_heads // tp)
    fixed = {
        "hidden_size": config.hidden_size,
        "width of the attention's output": heads * config.head_size,
        "width of queries, keys and values together": (heads + 2 * kv_heads) * config.head_size,
    }
    for name, width in fixed.items():
        if width % FP8_MULTIPLE:
            raise UnsupportedRequest(
                f"FP8 at tensor parallel {tp}: the {name} is {width} per rank, "
                f"not a multiple of {FP8_MULTIPLE}"
            )
    width = config.intermediate_size // tp
    padded = width + -width % max(1, pad_intermediate)
    if padded % FP8_MULTIPLE and pad_intermediate != 1:
        raise UnsupportedRequest(
            f"FP8 at tensor parallel {tp}: intermediate_size {config.intermediate_size} is "
            f"{padded} per rank, not a multiple of {FP8_MULTIPLE}; "
            f"use --pad-intermediate {FP8_MULTIPLE}{_suggest_division(config, tp, pp)}"
        )


def _suggest_division(config: ModelConfig, tp: int, pp: int) -> str:
    """Suggest the division over as many ranks with the largest tp that needs no padding."""
    for fewer in range(tp - 1, 0, -1):
        stages, rest = divmod(tp * pp, fewer)
        aligned = not any(_list_obstacles(config, fewer, 0)) and not (
            config.intermediate_size // fewer % FP8_MULTIPLE
        )
        if aligned and not rest and not config.num_layers % stages:
            return f", or --tp {fewer} --pp {stages}"
    return ""


def _list_obstacles(config: ModelConfig, tp: int, sharding: int | None) -> Iterable[str]:
    if config.num_heads % tp:
        yield f"it does not divide {config.num_heads} attention heads"
    elif config.num_kv_heads % tp and tp % config.num_kv_heads:
        yield f"it neither divides nor is a multiple of {config.num_kv_heads} key-value heads"
    if config.intermediate_size % tp:
        yield f"it does not divide intermediate_size {config.intermediate_size}"
    if sharding == 1 and config.hidden_size % tp:
        yield f"it does not divide hidden_size {config.hidden_size}, which the embedding needs"


def _check_tensor_parallel(config: ModelConfig, tp: int, sharding: int | None) -> None:
    if obstacles := list(_list_obstacles(config, tp, sharding)):
        possible = (
            str(n)
            for n in range(1, min(config.num_heads, MAX_RANKS) + 1)
            if not any(_list_obstacles(config, n, sharding))
        )
        raise UnsupportedRequest(
            f"tensor parallel {tp}: {'; '.join(obstacles)}; possible here: {', '.join(possible)}"
        )
