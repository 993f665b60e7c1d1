"""Progress of a build: bars for a person, JSON lines for a program, and a file to look into."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, ProgressColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from llmjp_cli.console import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rich.progress import Task

    from llmjp_builder.contracts.spec import Progress

_INTERVAL_S = 1.0
"""The shortest time between two JSON lines of one step."""


class _RateColumn(ProgressColumn):
    """Bytes per second and the time left, as measured by the builder."""

    def render(self, task: Task) -> Text:
        progress: Progress | None = task.fields.get("progress")
        if progress is None or not progress.bytes_total:
            return Text("")
        rate = f"{progress.bytes_per_second / 1e6:,.0f} MB/s"
        eta = (
            ""
            if progress.eta_seconds is None
            else f"  {format_duration(progress.eta_seconds)} left"
        )
        return Text(rate + ("" if progress.percent >= 100 else eta), style="progress.remaining")


class BarSink:
    """One bar per step on a terminal; finished steps stay on the screen."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._step: tuple[str, str] | None = None
        self._task: TaskID | None = None

    def __call__(self, progress: Progress, /) -> None:
        """Show one value."""
        if self._task is None or self._step != (progress.step, progress.message):
            self._step = (progress.step, progress.message)
            self._task = self._bars.add_task(progress.step, total=None, message="", progress=None)
        sized = progress.bytes_total > 0
        self._bars.update(
            self._task,
            total=progress.bytes_total if sized else 100,
            completed=progress.bytes_done if sized else progress.percent,
            progress=progress,
            message=progress.message,
        )


class LineSink:
    """One JSON object per line: at every change of step, at its end, and once a second between."""

    def __init__(
        self, write: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._clock = clock
        self._step: tuple[str, str] | None = None
        self._written = clock()

    def __call__(self, progress: Progress, /) -> None:
        """Write one value, unless the last one is recent."""
        step = (progress.step, progress.message)
        ended = progress.percent >= 100
        if step == self._step and not ended and self._clock() - self._written < _INTERVAL_S:
            return
        self._step, self._written = step, self._clock()
        self._write(json.dumps(progress.to_json(), ensure_ascii=False))


def build_file_sink(path: Path) -> LineSink:
    """Return a sink that replaces `path`; a reader always finds one whole value."""

    def replace(line: str) -> None:
        partial = path.with_name(f".{path.name}.partial")
        with suppress(OSError):  # progress is optional: no build fails for it
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(line + "\n", encoding="utf-8")
            partial.replace(path)

    return LineSink(replace)


@contextmanager
def open_reporter(*others: Callable[[Progress], None]) -> Iterator[Callable[[Progress], None]]:
    """Yield a sink that feeds `others` and stderr: bars on a terminal, else JSON lines."""
    if not sys.stderr.isatty():
        yield _fan_out(LineSink(lambda line: typer.echo(line, err=True)), *others)
        return
    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(),
        DownloadColumn(),
        _RateColumn(),
        TextColumn("{task.fields[message]}", style="dim"),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        yield _fan_out(BarSink(bars), *others)


def _fan_out(*sinks: Callable[[Progress], None]) -> Callable[[Progress], None]:
    def feed_all(progress: Progress) -> None:
        for sink in sinks:
            sink(progress)

    return feed_all
