"""A verification for a person: each number beside its limit, and where the checkpoint is off."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmjp_cli.console import build_table, open_console
from llmjp_runtime.verify.report import is_good_part

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

    from llmjp_runtime.text.tokenizer import TextTokenizer
    from llmjp_runtime.verify.limits import Limits
    from llmjp_runtime.verify.report import Measurement

PIPED_WIDTH = 120
_MAX_SHOWN = 6
"""Bad parts that are shown; the first one is the most telling."""


def print_measurement(
    measurement: Measurement, limits: Limits, prompts: Sequence[str], tokenizer: TextTokenizer
) -> None:
    """Print the measurement on stdout."""
    console = open_console(PIPED_WIDTH)
    console.print(
        f"{len(measurement.texts)} prompts, {measurement.num_tokens:,} tokens, weights stored as "
        f"{measurement.precision}"
    )
    console.print(_build_table(measurement, limits))
    for line in (
        *_format_parts(measurement, limits),
        *_format_ranges(measurement, limits),
        *_format_texts(measurement, prompts, tokenizer),
    ):
        console.print(line, markup=False)
    failed = next(measurement.failures(limits), None)
    console.print("[bold red]FAIL[/]" if failed else "[bold green]PASS[/]")


def _build_table(m: Measurement, limits: Limits) -> Table:
    table = build_table(padding=3)
    table.add_column("")
    table.add_column("found", justify="right")
    table.add_column("limit", justify="right")
    ratio = m.checkpoint_perplexity / m.reference_perplexity
    part, gain = m.worst_part, max(m.parts, key=lambda part: abs(part.gain - 1))
    rows: tuple[tuple[str, float, float | None], ...] = (
        ("mean KL(reference || checkpoint)", m.mean_kl, limits.mean_kl),
        ("largest KL of a position", m.max_kl, None),
        ("mean logit error / spread", m.mean_error / m.spread, limits.logit_error),
        ("mean logit error", m.mean_error, None),
        ("largest logit error", m.max_error, None),
        ("perplexity of the reference", m.reference_perplexity, None),
        ("perplexity of the checkpoint", m.checkpoint_perplexity, None),
        ("|ln(perplexity ratio)|", abs(math.log(ratio)), limits.perplexity),
        (f"largest error of a part: {part.name}", part.error, limits.part_error),
        (f"largest |gain - 1|: {gain.name}", abs(gain.gain - 1), limits.part_gain),
    )
    if m.ranges:
        filled = max(found.filled for found in m.ranges)
        rows += (("largest share of FP8's range in use", filled, limits.range_high),)
    for name, found, limit in rows:
        kept = limit is None or found <= limit
        allowed = "" if limit is None else f"{limit:g}"
        table.add_row(name, f"{found:.3g}", allowed, style=None if kept else "bold red")
    return table


def _format_parts(m: Measurement, limits: Limits) -> Iterator[str]:
    bad = [part for part in m.parts if not is_good_part(part, limits)]
    if bad:
        yield "\nparts that are off, given the reference's own input"
        yield from (
            f"  {part.name}: error {part.error:.3g}, gain {part.gain:.4g}"
            for part in bad[:_MAX_SHOWN]
        )
        if len(bad) > _MAX_SHOWN:
            yield f"  and {len(bad) - _MAX_SHOWN} more"


def _format_ranges(m: Measurement, limits: Limits) -> Iterator[str]:
    bad = [found for found in m.ranges if not found.is_good(limits)]
    if bad:
        yield "\nscales that do not fit their inputs"
        yield from (
            f"  {found.name}: scale {found.scale:.3g}, of whose range inputs use {found.filled:.3g}"
            for found in bad[:_MAX_SHOWN]
        )
        if len(bad) > _MAX_SHOWN:
            yield f"  and {len(bad) - _MAX_SHOWN} more"


def _format_texts(
    m: Measurement, prompts: Sequence[str], tokenizer: TextTokenizer
) -> Iterator[str]:
    worst = m.texts[m.worst_text]
    yield f"\nworst prompt    {prompts[m.worst_text]} (mean KL {worst.mean_kl:.3g})"
    same = sum(text.difference is None for text in m.texts)
    share = f"{m.top1_agreement:.1%} of all positions"
    yield f"greedy replies  {same} of {len(m.texts)} are the same; top 1 agrees at {share}"
    index = m.first_difference
    if index is not None and (difference := m.texts[index].difference) is not None:
        ours, theirs = (
            f"{i} {tokenizer.pieces[i].decode(errors='replace')!r}"
            if i < len(tokenizer.pieces)
            else str(i)
            for i in (difference.checkpoint_id, difference.reference_id)
        )
        where = f"{prompts[index]}: token {difference.position + 1}"
        margin = f"by {difference.margin:.3g} logits"
        yield f"first differs   {where} is {ours}, the reference's {theirs} ({margin})"
    yield ""
