"""Conversion of larger and larger models: what `convert.py --sizes` measures, prints and draws."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from checkpoints import DTYPES, generate
from llmjp_builder.contracts.spec import LayoutOptions
from llmjp_builder.convert.layout import resolve_layout
from llmjp_builder.planning.models import find_model_by_size
from llmjp_builder.planning.weights import size_ranks
from timing import Series, convert_command, cool, copy_command, measure, ratio, timed, warm

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from llmjp_builder.convert.model_config import ModelConfig

RESERVE = 6_000_000_000
"""Bytes of disk left to everybody else."""


class Source(StrEnum):
    """What is read."""

    MEMORY = "data, memory"
    DISK = "data, disk"
    """It and a copy are more than the memory, so both cp and conversion begin with none of it."""
    HOLES = "holes"
    """Zeros that take no room on the disk and no time to read: not comparable with cp of data."""


@dataclass(frozen=True)
class Point:
    """One size of model."""

    size: str
    tp: int
    source: Source
    source_bytes: int
    written_bytes: int
    convert: Series
    copy: Series | None
    """cp and sync of as many bytes as are written; None where the disk has no room for it."""


def points(folder: Path, sizes: Sequence[str], *, tp: int, rounds: int, stored: str) -> list[Point]:
    """Each size in turn, in `folder`; nothing of one is left when the next begins."""
    found = []
    for size in sizes:
        config = find_model_by_size(size).config
        shape = resolve_layout(config, LayoutOptions(dtype="bfloat16", tensor_parallel=tp))
        written = sum(rank.file_bytes for rank in size_ranks(config, shape))
        kind = _kind(folder, size, config, written, tp=tp, stored=stored)
        if kind is not None:
            work = folder / size
            found.append(_point(work, size, kind, written, tp=tp, rounds=rounds, stored=stored))
            shutil.rmtree(work)
    return found


def _kind(
    folder: Path, size: str, config: ModelConfig, written: int, *, tp: int, stored: str
) -> Source | None:
    """How to generate the size's source so that it fits; None where not even holes do."""
    free = shutil.disk_usage(folder).free - RESERVE
    # `written` is bfloat16; at tp 1 nothing is in it that is not in the source.
    single = resolve_layout(config, LayoutOptions(dtype="bfloat16"))
    source = size_ranks(config, single)[0].file_bytes * (2 if stored == "F32" else 1)
    # What cp copies: the source where the bytes are as many, otherwise a result that is kept.
    needed = source + written * (1 if _same_bytes(tp, stored) else 2)
    if needed <= free:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return Source.MEMORY if needed < memory else Source.DISK
    room = (
        f"{needed / 1e9:.0f} GB are needed, {max(free, 0) / 1e9:.0f} GB are free beyond a reserve"
    )
    if written <= free:
        _say(f"{size}: no cp, and a source of holes: {room}")
        return Source.HOLES
    _say(f"{size}: left out: {written / 1e9:.0f} GB are written; {room}")
    return None


def _same_bytes(tp: int, stored: str) -> bool:
    return tp == 1 and stored == "BF16"


def _point(
    folder: Path, size: str, kind: Source, written: int, *, tp: int, rounds: int, stored: str
) -> Point:
    source, out, kept = folder / "source", folder / "out", folder / "kept"
    holes = kind is Source.HOLES
    _say(f"{size}: generating, {kind}")
    source_bytes = generate(source, find_model_by_size(size).config, stored, holes=holes)
    copied = source
    if not holes and not _same_bytes(tp, stored):
        timed(convert_command(source, kept, tp))
        copied = kept
    converting = (Series("convert"), source, convert_command(source, out, tp))
    copying = (Series("cp"), copied, copy_command(copied, out))
    plan = [converting] if holes else [copying, converting]
    # What is read from the disk takes minutes: twice at most, so that each goes first once.
    for i in range(min(rounds, 2) if kind is Source.DISK else rounds):
        for series, read, command in plan if i % 2 == 0 else plan[::-1]:
            if kind is Source.MEMORY:
                warm(read)
            else:
                cool(read)
            measure(series, command, out)
            anon = f"{series.rss_anon_bytes / 1e6:.0f} MB"
            _say(f"{size}: {series.name} {series.seconds[-1]:.1f} s, RssAnon {anon}")
    copy = None if holes else copying[0]
    return Point(size, tp, kind, source_bytes, written, converting[0], copy)


def table(found: Sequence[Point], stored: str) -> str:
    """For people; times are medians, memory is the most of all rounds."""
    columns = f"{'size':>5} {'tp':>2} {'GB read':>8} {'written':>8}  {'read from':<12}"
    columns += f" {'rounds':>6} {'convert s':>9} {'cp s':>7} {'ratio':>6} {'RssAnon MB':>10}"
    lines = [f"stored as {DTYPES[stored]}, {os.cpu_count()} cores", columns]
    for p in found:
        cp = f"{statistics.median(p.copy.seconds):7.1f}" if p.copy else f"{'-':>7}"
        share = f"{ratio(p.convert, p.copy):6.2f}" if p.copy else f"{'-':>6}"
        lines.append(
            f"{p.size:>5} {p.tp:>2} {p.source_bytes / 1e9:8.2f} {p.written_bytes / 1e9:8.2f}"
            f"  {p.source:<12} {len(p.convert.seconds):6}"
            f" {statistics.median(p.convert.seconds):9.1f} {cp} {share}"
            f" {p.convert.rss_anon_bytes / 1e6:10.0f}"
        )
    return "\n".join(lines)


def plot(found: Sequence[Point], path: Path) -> None:
    """Wall time and RssAnon against the bytes written; needs the extra `bench`."""
    from matplotlib.figure import Figure  # type: ignore[import-not-found]

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    gigabytes = [p.written_bytes / 1e9 for p in found]
    copied = [(x, p.copy.seconds) for x, p in zip(gigabytes, found, strict=True) if p.copy]
    times = [statistics.median(p.convert.seconds) for p in found]
    memory = [p.convert.rss_anon_bytes / 1e6 for p in found]
    if copied:
        medians = [statistics.median(seconds) for _, seconds in copied]
        left.plot([x for x, _ in copied], medians, "s--", color="C1", label="cp and sync")
    left.plot(gigabytes, times, "o-", color="C0", label=f"llmjp convert --tp {found[0].tp}")
    left.legend()
    left.set(ylabel="seconds", title="Wall time", yscale="log")
    left.margins(y=0.15)
    right.plot(gigabytes, memory, "o-", color="C0")
    right.set(ylabel="MB", title="Peak anonymous memory (RssAnon)", ylim=(0, 1.5 * max(memory)))
    names = [f"{p.size}\n{x:.1f}" for x, p in zip(gigabytes, found, strict=True)]
    for axes, values in ((left, times), (right, memory)):
        axes.set(xlabel="GB written", xscale="log", xlim=(gigabytes[0] / 2, gigabytes[-1] * 2))
        axes.set_xticks(gigabytes, names)
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
        for x, y, p in zip(gigabytes, values, found, strict=True):
            if p.source is not Source.MEMORY:
                note = "holes" if p.source is Source.HOLES else "from disk"
                axes.annotate(note, (x, y), (0, 8), textcoords="offset points", ha="center")
    figure.savefig(path, dpi=100)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
