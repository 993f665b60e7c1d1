"""Fit of divisions on kinds of GPU, and the room that is left for requests. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from llmjp_builder.planning.kv_cache import RESERVE_BYTES, count_tokens_that_fit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmjp_builder.planning.divisions import Division
    from llmjp_builder.planning.gpus import GpuType
    from llmjp_builder.planning.request import PlanRequest

_GIB = 1 << 30


class FitVerdict(StrEnum):
    """The verdict on a division on one kind of GPU: it works, or something is too small."""

    WORKS = "works"
    FEW_SEQUENCES = "few_sequences"
    """It runs, but fewer sequences of full length fit at once than requested."""
    NO_SEQUENCE = "no_sequence"
    """The weights fit, but no sequence of full length fits beside them."""
    WEIGHTS_TOO_LARGE = "weights_too_large"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One division on one kind of GPU."""

    gpus: int
    """Number of GPUs."""
    tensor_parallel: int
    pipeline_parallel: int
    weights_bytes: int
    """On the GPU that holds most."""
    kv_tokens: int
    """Shared by all requests."""
    sequences: int
    """Sequences of full length that fit at once."""
    tokens_per_slot: int
    """Tokens for each request when the batch is full; at most the length of a sequence."""
    verdict: FitVerdict
    reason: str | None = None
    """The reason why it does not work as requested; None where it does."""
    cheapest: bool = False
    """The fewest GPUs that work; among equals the fewest stages. At most one per kind of GPU."""
    recommended: bool = False
    """The fewest stages, and among equals the fewest GPUs, of those that work and fill a node
    without rest (3 of 8 GPUs leave 2 idle); the cheapest where there is none. A token passes
    through stages in turn, while tensor parallel ranks read their weights at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPlan:
    """Every division on one kind of GPU."""

    gpu: str
    products: tuple[str, ...]
    """Values of the node label nvidia.com/gpu.product."""
    compute_capability: str
    usable_bytes: int
    fits: tuple[Fit, ...]
    """Fewest GPUs first; empty where the kind of GPU is refused."""
    refusal: str | None = None
    """The reason why nothing can run on this kind of GPU; None where something may."""

    @property
    def recommended(self) -> Fit | None:
        """The layout to take."""
        return next((fit for fit in self.fits if fit.recommended), None)

    @property
    def cheapest(self) -> Fit | None:
        """The layout with the fewest GPUs."""
        return next((fit for fit in self.fits if fit.cheapest), None)

    @property
    def closest(self) -> Fit | None:
        """The layout with the most room, whether it works or not."""
        return max(self.fits, key=lambda fit: (fit.kv_tokens, -fit.weights_bytes), default=None)


def plan_gpu(
    gpu: GpuType, divisions: Iterable[Division], request: PlanRequest, max_seq_len: int
) -> GpuPlan:
    """Judge every division on one kind of GPU, and mark the ones to choose."""
    refusal = _find_refusal(gpu, request)
    fits = [] if refusal else [_judge_fit(gpu, d, request, max_seq_len) for d in divisions]
    return GpuPlan(
        gpu=gpu.name,
        products=gpu.products,
        compute_capability=gpu.compute_capability,
        usable_bytes=gpu.usable_bytes,
        fits=_mark_choices(fits, request.gpus_per_node),
        refusal=refusal,
    )


def _mark_choices(fits: list[Fit], per_node: int) -> tuple[Fit, ...]:
    working = [fit for fit in fits if fit.verdict is FitVerdict.WORKS]
    even = [fit for fit in working if per_node % fit.gpus == 0]
    cheapest = min(working, key=lambda fit: (fit.gpus, fit.pipeline_parallel), default=None)
    recommended = min(even, key=lambda fit: (fit.pipeline_parallel, fit.gpus), default=cheapest)
    return tuple(
        replace(fit, cheapest=fit is cheapest, recommended=fit is recommended) for fit in fits
    )


def _find_refusal(gpu: GpuType, request: PlanRequest) -> str | None:
    if request.quantization == "fp8" and not gpu.fp8:
        return f"FP8 needs compute capability 8.9, {gpu.name} has {gpu.compute_capability}"
    return None


def _judge_fit(gpu: GpuType, division: Division, request: PlanRequest, max_seq_len: int) -> Fit:
    room = min(
        count_tokens_that_fit(gpu.usable_bytes, weights, token_bytes)
        for weights, token_bytes in zip(
            division.weights_bytes_per_rank, division.kv_bytes_per_token_per_rank, strict=True
        )
    )
    weights = max(division.weights_bytes_per_rank)
    verdict, reason = _decide_verdict(gpu, weights, room, (request.sequences, max_seq_len))
    return Fit(
        gpus=division.world,
        tensor_parallel=division.tensor_parallel,
        pipeline_parallel=division.pipeline_parallel,
        weights_bytes=weights,
        kv_tokens=room,
        sequences=room // max_seq_len,
        tokens_per_slot=min(room // request.max_batch_size, max_seq_len),
        verdict=verdict,
        reason=reason,
    )


def _decide_verdict(
    gpu: GpuType, weights: int, room: int, wanted: tuple[int, int]
) -> tuple[FitVerdict, str | None]:
    """Return the verdict and its reason; `wanted` is (number of sequences, length of each)."""
    sequences, max_seq_len = wanted
    if weights + RESERVE_BYTES >= gpu.usable_bytes:
        return FitVerdict.WEIGHTS_TOO_LARGE, (
            f"weights {weights / _GIB:.1f} GiB and {RESERVE_BYTES / _GIB:.0f} GiB of reserve do "
            f"not fit in {gpu.usable_bytes / _GIB:.0f} GiB"
        )
    if room < max_seq_len:
        return FitVerdict.NO_SEQUENCE, (
            f"the KV cache has room for {room:,} tokens, but one sequence takes {max_seq_len:,}"
        )
    if room // max_seq_len < sequences:
        return FitVerdict.FEW_SEQUENCES, (
            f"{room // max_seq_len} sequences of {max_seq_len:,} tokens fit at once, "
            f"{sequences} are requested"
        )
    return FitVerdict.WORKS, None
