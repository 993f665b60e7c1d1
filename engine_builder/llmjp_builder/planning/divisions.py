"""Divisions of a model over ranks: which are possible, what each takes, why others are not. Pure.

The converter's own check (`convert.layout`) decides, so a plan refuses what a conversion would.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.contracts.defaults import MAX_RANKS
from llmjp_builder.contracts.errors import UnsupportedRequest
from llmjp_builder.convert.layout import Layout, resolve_layout
from llmjp_builder.planning.host import BuildNeeds, estimate_build_needs
from llmjp_builder.planning.kv_cache import compute_bytes_per_token_on_rank
from llmjp_builder.planning.weights import size_ranks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmjp_builder.convert.model_config import ModelConfig
    from llmjp_builder.planning.request import PlanRequest
    from llmjp_builder.planning.weights import Parameters

_HALF_BYTES = 2
_WORTH_SAYING = 1 << 28
"""Bytes per GPU that a warning is about, at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A division that works on no GPU, and the reason."""

    tensor_parallel: int
    pipeline_parallel: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """A division that a conversion accepts; rank = stage * tensor_parallel + tp_rank."""

    tensor_parallel: int
    pipeline_parallel: int
    weights_bytes_per_rank: tuple[int, ...]
    """The tensors alone: what each GPU holds."""
    file_bytes_per_rank: tuple[int, ...]
    """Whole files, headers included."""
    kv_bytes_per_token_per_rank: tuple[int, ...]
    intermediate_padding: int
    """Zeros that fill up the MLP width of each rank."""
    padded_vocab_size: int
    """Rows of the output projection; those beyond vocab_size are zeros."""
    build: BuildNeeds
    warnings: tuple[str, ...]

    @property
    def world(self) -> int:
        """Number of GPUs."""
        return self.tensor_parallel * self.pipeline_parallel


def list_tensor_parallel(config: ModelConfig, request: PlanRequest) -> tuple[int, ...]:
    """Return every tensor parallelism that the model allows, however many GPUs a node has."""
    return tuple(
        tp
        for tp in range(1, min(config.num_heads, MAX_RANKS) + 1)
        if not isinstance(_try_layout(config, request, tp, 1), str)
    )


def list_pipeline_parallel(config: ModelConfig) -> tuple[int, ...]:
    """Return every pipeline parallelism that divides the layers evenly."""
    return tuple(
        pp for pp in range(1, min(config.num_layers, MAX_RANKS) + 1) if not config.num_layers % pp
    )


def list_divisions(
    config: ModelConfig, counted: Parameters, request: PlanRequest, source_bytes: int
) -> tuple[tuple[Division, ...], tuple[Refusal, ...]]:
    """Return the requested divisions that work, fewest GPUs first, and those that do not.

    Raises:
        InvalidSpec: an option fits no model.
    """
    accepted: list[Division] = []
    refused: list[Refusal] = []
    for tp, pp in _list_candidates(config, request):
        found = _try_layout(config, request, tp, pp)
        reason = found if isinstance(found, str) else _refuse_more_than_a_node(request, tp, pp)
        if not isinstance(found, str) and reason is None:
            accepted.append(_describe_division(config, counted, found, source_bytes))
        elif reason and (not request.searches or pp == 1):
            refused.append(Refusal(tensor_parallel=tp, pipeline_parallel=pp, reason=reason))
    accepted.sort(key=lambda d: (d.world, d.pipeline_parallel))
    return tuple(accepted), tuple(refused)


def _list_candidates(config: ModelConfig, request: PlanRequest) -> Iterator[tuple[int, int]]:
    tp, pp, most = request.tensor_parallel, request.pipeline_parallel, request.gpus_per_node
    if tp is not None:
        yield tp, pp or 1
    elif pp is not None:
        yield from ((n, pp) for n in range(1, max(1, most // pp) + 1))
    else:
        for stages in list_pipeline_parallel(config):
            yield from ((n, stages) for n in range(1, most // stages + 1))


def _try_layout(config: ModelConfig, request: PlanRequest, tp: int, pp: int) -> Layout | str:
    """Return the checked layout, or the reason why there is none."""
    try:
        found = resolve_layout(config, request.get_layout_options(tp, pp))
    except UnsupportedRequest as refusal:
        return str(refusal)
    return found


def _refuse_more_than_a_node(request: PlanRequest, tp: int, pp: int) -> str | None:
    if tp * pp <= request.gpus_per_node:
        return None
    return (
        f"tensor parallel {tp} x pipeline parallel {pp} = {tp * pp} GPUs, but a node has "
        f"{request.gpus_per_node}, and a model is served from one node; "
        "if yours have more, set --gpus-per-node"
    )


def _describe_division(
    config: ModelConfig, counted: Parameters, found: Layout, source_bytes: int
) -> Division:
    files = size_ranks(config, found)
    tp = found.tensor_parallel
    return Division(
        tensor_parallel=tp,
        pipeline_parallel=found.pipeline_parallel,
        weights_bytes_per_rank=tuple(file.weights_bytes for file in files),
        file_bytes_per_rank=tuple(file.file_bytes for file in files),
        kv_bytes_per_token_per_rank=tuple(
            compute_bytes_per_token_on_rank(config, found, rank // tp)
            for rank in range(found.world)
        ),
        intermediate_padding=found.intermediate_padding,
        padded_vocab_size=-(-config.vocab_size // tp) * tp,
        build=estimate_build_needs(
            config,
            counted,
            files,
            source_bytes=source_bytes,
            fp8=found.quantization == "fp8",
        ),
        warnings=tuple(_list_warnings(config, found)),
    )


def _list_warnings(config: ModelConfig, found: Layout) -> Iterator[str]:
    tp, pp = found.tensor_parallel, found.pipeline_parallel
    if config.num_layers % pp:
        yield (
            f"pipeline parallel {pp} does not divide {config.num_layers} layers evenly: the first "
            "stages take one more, and the others wait for them"
        )
    if tp > config.num_kv_heads:
        copies = tp // config.num_kv_heads
        yield f"each key-value head is on {copies} GPUs: the KV cache holds {copies} copies"
    table = config.vocab_size * config.hidden_size * _HALF_BYTES
    saved = table - table // tp
    if found.embedding_sharding_dim is None and saved >= _WORTH_SAYING:
        yield (
            "every rank of the first stage holds the whole embedding table: "
            f"--embedding-sharding-dim 0 frees {saved / (1 << 30):.1f} GiB on each"
        )
