"""A plan for a person: what fits, what is refused, and the next command."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from llmjp_builder.planning.fit import Fit, FitVerdict, GpuPlan
from llmjp_builder.planning.request import PlanRequest
from llmjp_cli.console import build_table, open_console

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.table import Table

    from llmjp_builder.planning.capacity import CapacityPlan

_GIB = 1 << 30
PIPED_WIDTH = 120


def print_plan(plan: CapacityPlan, request: PlanRequest, source: Path | None) -> None:
    """Print `plan` on stdout; `source` is None if the model was given by its size."""
    console = open_console(PIPED_WIDTH)
    for line in _format_head(plan):
        console.print(line, markup=False)
    if plan.divisions:
        console.print()
        console.print(_build_table(plan))
    for line in (*_format_refusals(plan, request), *_format_notes(plan), *_format_build(plan)):
        console.print(line, markup=False)
    if command := _format_next_command(plan, request, source):
        console.print(f"\nnext: {command}", markup=False, soft_wrap=True)


def _format_head(plan: CapacityPlan) -> Iterator[str]:
    counted = plan.parameters
    card = f" (the card says {counted.card_embedding:,})" if counted.card_embedding else ""
    yield f"{plan.model}, {_format_types(plan)}"
    yield (
        f"  parameters     {counted.total:,}: {counted.non_embedding:,} and embedding "
        f"{counted.embedding:,}{card}"
    )
    sequence = _format_bytes(plan.kv_bytes_per_token * plan.max_seq_len)
    yield (
        f"  KV cache       {plan.kv_bytes_per_token:,} bytes per token, "
        f"{sequence} per sequence of {plan.max_seq_len:,}"
    )
    yield f"  possible tp    {_format_numbers(plan.tensor_parallel)}"
    yield f"  possible pp    {_format_numbers(plan.pipeline_parallel)}"


def _format_types(plan: CapacityPlan) -> str:
    weights = plan.dtype if plan.quantization == "none" else f"FP8 ({plan.dtype} elsewhere)"
    return f"{weights}, KV cache {'FP8' if plan.kv_cache == 'fp8' else plan.dtype}"


def _build_table(plan: CapacityPlan) -> Table:
    table = build_table()
    table.add_column("GPU", no_wrap=True)
    for name in ("usable", "GPUs", "tp", "pp", "weights/GPU", "KV tokens", "sequences"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for gpu in plan.gpus:
        rows = _select_fits(gpu, everything=len(plan.gpus) == 1)
        if not rows:
            table.add_row(
                gpu.gpu, _format_bytes(gpu.usable_bytes), *["-"] * 6, f"no: {gpu.refusal}"
            )
        for fit in rows:
            cells = _format_cells(plan, gpu, fit)
            table.add_row(*cells, style="bold" if fit.recommended else None)
    return table


def _select_fits(gpu: GpuPlan, *, everything: bool) -> list[Fit]:
    """Return the best fits; for a single kind of GPU, one for each number of GPUs."""
    if everything:
        fewest: dict[int, Fit] = {}
        for fit in gpu.fits:
            fewest.setdefault(fit.gpus, fit)
        shown = [*fewest.values(), *(f for f in gpu.fits if f.cheapest or f.recommended)]
        return sorted(dict.fromkeys(shown), key=lambda f: (f.gpus, f.pipeline_parallel))
    best = [gpu.cheapest, gpu.recommended] if gpu.recommended else [gpu.closest]
    return [fit for fit in dict.fromkeys(best) if fit]


def _format_cells(plan: CapacityPlan, gpu: GpuPlan, fit: Fit) -> tuple[str, ...]:
    return (
        gpu.gpu,
        _format_bytes(gpu.usable_bytes),
        str(fit.gpus),
        str(fit.tensor_parallel),
        str(fit.pipeline_parallel),
        _format_bytes(fit.weights_bytes),
        f"{fit.kv_tokens:,}" if fit.kv_tokens else "-",
        str(fit.sequences) if fit.kv_tokens else "-",
        _format_verdict(plan, fit),
    )


def _format_verdict(plan: CapacityPlan, fit: Fit) -> str:
    match fit.verdict:
        case FitVerdict.WEIGHTS_TOO_LARGE:
            return "no: the weights do not fit"
        case FitVerdict.NO_SEQUENCE:
            return f"no: not one sequence of {plan.max_seq_len:,} fits"
        case FitVerdict.FEW_SEQUENCES:
            return f"fewer than {plan.min_sequences} sequences"
        case FitVerdict.WORKS:
            return "recommended" if fit.recommended else "fewest GPUs" if fit.cheapest else ""


def _format_refusals(plan: CapacityPlan, request: PlanRequest) -> Iterator[str]:
    """Yield the refusals that somebody may care about."""
    wanted = [
        refusal
        for refusal in plan.refused
        if not request.searches or refusal.tensor_parallel & (refusal.tensor_parallel - 1) == 0
    ]
    if wanted:
        yield "\nrefused"
        yield from (f"  {refusal.reason}" for refusal in wanted)


def _format_notes(plan: CapacityPlan) -> Iterator[str]:
    notes = list(plan.warnings)
    if best := _find_best(plan):
        notes += plan.find_division(best).warnings
        if best.tokens_per_slot < plan.max_seq_len:
            notes.append(
                f"with {plan.max_batch_size} requests in a batch, each has room for "
                f"{best.tokens_per_slot:,} tokens (max_batch_size)"
            )
    if notes:
        yield "\nnote"
        yield from (f"  {note}" for note in notes)


def _format_build(plan: CapacityPlan) -> Iterator[str]:
    best = _find_best(plan)
    if best is None:
        return
    needs = plan.find_division(best).build
    calibrate = needs.calibrate_memory_bytes
    yield f"\nto build it (tp {best.tensor_parallel}, pp {best.pipeline_parallel})"
    yield (
        f"  disk           {_format_bytes(needs.engine.disk_bytes)}: source "
        f"{_format_bytes(needs.source_disk_bytes)}, "
        f"checkpoint {_format_bytes(needs.checkpoint_disk_bytes)}, "
        f"engine about {_format_bytes(needs.engine_disk_bytes)}"
    )
    yield (
        f"  host memory    convert at most {_format_bytes(needs.convert_memory_bytes)}"
        + (f", calibrate about {_format_bytes(calibrate)}" if calibrate else "")
        + f", compile about {_format_bytes(needs.compile_memory_bytes)} for each rank at a time"
    )


def _find_best(plan: CapacityPlan) -> Fit | None:
    """Return the recommended fit that the notes are about, if all GPUs agree on a layout."""
    if len(plan.gpus) == 1:
        return plan.gpus[0].recommended
    layouts = {
        (fit.tensor_parallel, fit.pipeline_parallel): fit
        for gpu in plan.gpus
        if (fit := gpu.recommended)
    }
    return next(iter(layouts.values())) if len(layouts) == 1 else None


def _format_next_command(
    plan: CapacityPlan, request: PlanRequest, source: Path | None
) -> str | None:
    """Return the next command: a build, or a plan for one GPU before that."""
    working = [gpu for gpu in plan.gpus if gpu.recommended]
    if not working:
        return None
    folder = None if source is None else shlex.quote(str(source))
    if len(plan.gpus) > 1:
        model = folder or f"--size {plan.model.removeprefix('llm-jp-3-')}"
        load = _format_given(
            request, "max_seq_len", "max_batch_size", "concurrency", "gpus_per_node"
        )
        return " ".join(
            [f"llmjp plan {model} --gpu {working[0].gpu}", *_format_given(request, *_BUILD), *load]
        )
    best = working[0].recommended
    assert best is not None, "it is among those that work"
    layout = f"--tp {best.tensor_parallel} --pp {best.pipeline_parallel}"
    return " ".join(
        [
            f"llmjp build {folder or 'CHECKPOINT'} --store STORE {layout}",
            *_format_given(request, *_BUILD),
        ]
    )


_BUILD = (
    "backend",
    "quantization",
    "kv_cache",
    "dtype",
    "embedding_sharding_dim",
    "pad_intermediate",
)
"""Options that `llmjp build` has as well."""


def _format_given(request: PlanRequest, *names: str) -> list[str]:
    """Return the options that differ from their default, as they are typed."""
    default = PlanRequest()
    return [
        f"--{name.replace('_', '-')} {getattr(request, name)}"
        for name in names
        if getattr(request, name) != getattr(default, name)
    ]


def _format_bytes(size: int) -> str:
    """Format bytes in GiB; in MiB for small models."""
    if size < _GIB // 10:
        return f"{size / (1 << 20):.1f} MiB"
    return f"{size / _GIB:.1f} GiB" if size < 100 * _GIB else f"{size / _GIB:,.0f} GiB"


def _format_numbers(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers)) or "none"
