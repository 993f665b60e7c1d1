"""A plan for people: what fits at a glance, what is refused, what to type next."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from llmjp_builder.planning.fit import Fit, FitVerdict, GpuPlan
from llmjp_builder.planning.request import PlanRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmjp_builder.planning.capacity import CapacityPlan

_GIB = 1 << 30
_PIPED_WIDTH = 120
"""Columns where no terminal says how many it has."""


def show(plan: CapacityPlan, request: PlanRequest, source: Path | None) -> None:
    """Print `plan` on stdout.

    Args:
        plan: what was found.
        request: what was asked for.
        source: the checkpoint's folder; None where the model was given by its size.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)
    for line in _head(plan):
        console.print(line, markup=False)
    if plan.divisions:
        console.print()
        console.print(_table(plan))
    for line in (*_refusals(plan, request), *_notes(plan), *_build(plan)):
        console.print(line, markup=False)
    if command := _next(plan, request, source):
        console.print(f"\nnext: {command}", markup=False, soft_wrap=True)


def _head(plan: CapacityPlan) -> Iterator[str]:
    counted = plan.parameters
    card = f" (the card says {counted.card_embedding:,})" if counted.card_embedding else ""
    yield f"{plan.model}, {_kind(plan)}"
    yield (
        f"  parameters     {counted.total:,}: {counted.non_embedding:,} and embedding "
        f"{counted.embedding:,}{card}"
    )
    yield (
        f"  KV cache       {plan.kv_bytes_per_token:,} bytes per token, "
        f"{_bytes(plan.kv_bytes_per_token * plan.max_seq_len)} per sequence of {plan.max_seq_len:,}"
    )
    yield f"  possible tp    {_numbers(plan.tensor_parallel)}"
    yield f"  possible pp    {_numbers(plan.pipeline_parallel)}"


def _kind(plan: CapacityPlan) -> str:
    weights = plan.dtype if plan.quantization == "none" else f"FP8 ({plan.dtype} elsewhere)"
    return f"{weights}, KV cache {'FP8' if plan.kv_cache == 'fp8' else plan.dtype}"


def _table(plan: CapacityPlan) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("GPU", no_wrap=True)
    for name in ("usable", "GPUs", "tp", "pp", "weights/GPU", "KV tokens", "sequences"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for gpu in plan.gpus:
        rows = _rows(gpu, everything=len(plan.gpus) == 1)
        if not rows:
            table.add_row(gpu.gpu, _bytes(gpu.usable_bytes), *["-"] * 6, f"no: {gpu.refusal}")
        for fit in rows:
            cells = _cells(plan, gpu, fit)
            table.add_row(*cells, style="bold" if fit.recommended else None)
    return table


def _rows(gpu: GpuPlan, *, everything: bool) -> list[Fit]:
    """All for a single kind of GPU: the fewest stages for each number of GPUs. Else the best."""
    if everything:
        fewest: dict[int, Fit] = {}
        for fit in gpu.fits:
            fewest.setdefault(fit.gpus, fit)
        shown = [*fewest.values(), *(f for f in gpu.fits if f.cheapest or f.recommended)]
        return sorted(dict.fromkeys(shown), key=lambda f: (f.gpus, f.pipeline_parallel))
    best = [gpu.cheapest, gpu.recommended] if gpu.recommended else [gpu.closest]
    return [fit for fit in dict.fromkeys(best) if fit]


def _cells(plan: CapacityPlan, gpu: GpuPlan, fit: Fit) -> tuple[str, ...]:
    return (
        gpu.gpu,
        _bytes(gpu.usable_bytes),
        str(fit.gpus),
        str(fit.tensor_parallel),
        str(fit.pipeline_parallel),
        _bytes(fit.weights_bytes),
        f"{fit.kv_tokens:,}" if fit.kv_tokens else "-",
        str(fit.sequences) if fit.kv_tokens else "-",
        _word(plan, fit),
    )


def _word(plan: CapacityPlan, fit: Fit) -> str:
    match fit.verdict:
        case FitVerdict.WEIGHTS_TOO_LARGE:
            return "no: the weights do not fit"
        case FitVerdict.NO_SEQUENCE:
            return f"no: not one sequence of {plan.max_seq_len:,} fits"
        case FitVerdict.FEW_SEQUENCES:
            return f"fewer than {plan.min_sequences} sequences"
        case FitVerdict.WORKS:
            return "recommended" if fit.recommended else "fewest GPUs" if fit.cheapest else ""


def _refusals(plan: CapacityPlan, request: PlanRequest) -> Iterator[str]:
    """Of all that was refused, what somebody may have wanted."""
    wanted = [
        refusal
        for refusal in plan.refused
        if not request.searches or refusal.tensor_parallel & (refusal.tensor_parallel - 1) == 0
    ]
    if wanted:
        yield "\nrefused"
        yield from (f"  {refusal.reason}" for refusal in wanted)


def _notes(plan: CapacityPlan) -> Iterator[str]:
    notes = list(plan.warnings)
    if best := _best(plan):
        notes += plan.find_division(best).warnings
        if best.tokens_per_slot < plan.max_seq_len:
            notes.append(
                f"with all {plan.max_batch_size} requests of a batch at work, each has room for "
                f"{best.tokens_per_slot:,} tokens (max_batch_size)"
            )
    if notes:
        yield "\nmind"
        yield from (f"  {note}" for note in notes)


def _build(plan: CapacityPlan) -> Iterator[str]:
    best = _best(plan)
    if best is None:
        return
    needs = plan.find_division(best).build
    calibrate = needs.calibrate_memory_bytes
    yield f"\nto build it (tp {best.tensor_parallel}, pp {best.pipeline_parallel})"
    yield (
        f"  disk           {_bytes(needs.engine.disk_bytes)}: source "
        f"{_bytes(needs.source_disk_bytes)}, checkpoint {_bytes(needs.checkpoint_disk_bytes)}, "
        f"engine about {_bytes(needs.engine_disk_bytes)}"
    )
    yield (
        f"  host memory    convert at most {_bytes(needs.convert_memory_bytes)}"
        + (f", calibrate about {_bytes(calibrate)}" if calibrate else "")
        + f", compile about {_bytes(needs.compile_memory_bytes)} for each rank at a time"
    )


def _best(plan: CapacityPlan) -> Fit | None:
    """What the notes are about: the recommended layout of a single kind of GPU."""
    if len(plan.gpus) == 1:
        return plan.gpus[0].recommended
    layouts = {
        (fit.tensor_parallel, fit.pipeline_parallel): fit
        for gpu in plan.gpus
        if (fit := gpu.recommended)
    }
    return next(iter(layouts.values())) if len(layouts) == 1 else None


def _next(plan: CapacityPlan, request: PlanRequest, source: Path | None) -> str | None:
    """The command to go on with: a build, or first the choice of a GPU."""
    working = [gpu for gpu in plan.gpus if gpu.recommended]
    if not working:
        return None
    folder = None if source is None else shlex.quote(str(source))
    if len(plan.gpus) > 1:
        model = folder or f"--size {plan.model.removeprefix('llm-jp-3-')}"
        load = _given(request, "max_seq_len", "max_batch_size", "concurrency", "gpus_per_node")
        return " ".join(
            [f"llmjp plan {model} --gpu {working[0].gpu}", *_given(request, *_BUILD), *load]
        )
    best = working[0].recommended
    assert best is not None, "it is among those that work"
    layout = f"--tp {best.tensor_parallel} --pp {best.pipeline_parallel}"
    return " ".join(
        [f"llmjp build {folder or 'CHECKPOINT'} --store STORE {layout}", *_given(request, *_BUILD)]
    )


_BUILD = ("quantization", "kv_cache", "dtype", "embedding_sharding_dim", "pad_intermediate")
"""Options that a build takes as well."""


def _given(request: PlanRequest, *names: str) -> list[str]:
    """Those of the options that are not at their default, as one types them."""
    default = PlanRequest()
    return [
        f"--{name.replace('_', '-')} {getattr(request, name)}"
        for name in names
        if getattr(request, name) != getattr(default, name)
    ]


def _bytes(size: int) -> str:
    """Three digits or so; small models in MiB."""
    if size < _GIB // 10:
        return f"{size / (1 << 20):.1f} MiB"
    return f"{size / _GIB:.1f} GiB" if size < 100 * _GIB else f"{size / _GIB:,.0f} GiB"


def _numbers(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers)) or "none"
