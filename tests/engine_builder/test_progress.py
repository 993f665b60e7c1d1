"""Progress: rates and remaining time from a scripted clock; bars and lines from scripted values."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import TextColumn

from llmjp_builder.contracts.spec import Progress, Step
from llmjp_builder.progress import Reporter
from llmjp_cli.progress import BarSink, LineSink, build_file_sink


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_rate_and_remaining_time() -> None:
    clock, seen = Clock(), list[Progress]()
    reporter = Reporter(seen.append, clock=clock)
    reporter.begin(Step.CONVERT, 1000, "m")
    clock.now += 2
    reporter.add(250)
    reporter.end()
    first, middle, last = seen
    assert (first.percent, first.eta_seconds, first.bytes_per_second) == (0.0, None, 0.0)
    assert middle == Progress(
        step=Step.CONVERT,
        percent=25.0,
        bytes_done=250,
        bytes_total=1000,
        bytes_per_second=125.0,
        eta_seconds=6.0,
        message="m",
    )
    assert (last.percent, last.bytes_done, last.eta_seconds) == (100.0, 1000, 0.0)


def test_what_an_earlier_build_has_done_counts_as_progress_not_as_speed() -> None:
    clock, seen = Clock(), list[Progress]()
    reporter = Reporter(seen.append, clock=clock)
    reporter.begin(Step.FETCH, 1000, "m", already=600)
    clock.now += 2
    reporter.add(100)
    begun, middle = seen
    assert (begun.percent, begun.bytes_done, begun.eta_seconds) == (60.0, 600, None)
    assert (middle.percent, middle.bytes_per_second, middle.eta_seconds) == (70.0, 50.0, 6.0)


def test_a_step_without_size_has_no_rate() -> None:
    seen: list[Progress] = []
    reporter = Reporter(seen.append, clock=Clock())
    reporter.begin(Step.PUBLISH, 0, "")
    reporter.end()
    assert [p.percent for p in seen] == [0.0, 100.0]


def test_many_small_pieces_are_reported_seldom() -> None:
    clock, seen = Clock(), list[Progress]()
    reporter = Reporter(seen.append, clock=clock)
    reporter.begin(Step.CONVERT, 10_000, "")
    for _ in range(1000):
        clock.now += 0.001
        reporter.add(10)
    reporter.end()
    assert 4 <= len(seen) <= 7


def value(step: Step = Step.CONVERT, percent: float = 0.0, message: str = "") -> Progress:
    done = int(percent)
    return Progress(step=step, percent=percent, bytes_done=done, bytes_total=100, message=message)


def test_lines_come_on_change_at_the_end_and_once_a_second() -> None:
    clock, lines = Clock(), list[str]()
    sink = LineSink(lines.append, clock=clock)
    for after, progress in (
        (0.0, value(Step.FETCH)),
        (0.1, value(Step.CONVERT)),
        (0.1, value(Step.CONVERT, 1)),  # too soon
        (1.0, value(Step.CONVERT, 2)),
        (0.1, value(Step.CONVERT, 100)),
        (0.1, value(Step.CONVERT, 0, "other")),
    ):
        clock.now += after
        sink(progress)
    said = [json.loads(line) for line in lines]
    assert [(line["step"], line["percent"]) for line in said] == [
        ("fetch", 0),
        ("convert", 0),
        ("convert", 2),
        ("convert", 100),
        ("convert", 0),
    ]


def test_the_file_always_holds_one_whole_value(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "progress.json"
    sink = build_file_sink(path)
    sink(value(Step.FETCH))
    sink(value(Step.CONVERT, 100))
    assert Progress.from_json(json.loads(path.read_text())) == value(Step.CONVERT, 100)
    assert [p.name for p in path.parent.iterdir()] == ["progress.json"]


def test_a_file_that_cannot_be_written_stops_no_build(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    build_file_sink(tmp_path / "file" / "progress.json")(value())


def test_a_terminal_gets_one_bar_per_step() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    bars = Bars(TextColumn("{task.description} {task.fields[message]}"), console=console)
    sink = BarSink(bars)
    for progress in (
        value(Step.FETCH, 100, "hashing"),
        value(Step.CONVERT, 50, "a"),
        value(Step.CONVERT, 70, "a"),
    ):
        sink(progress)
    assert [(task.description, task.completed, task.total) for task in bars.tasks] == [
        ("fetch", 100, 100),
        ("convert", 70, 100),
    ]
