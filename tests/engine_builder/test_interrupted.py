"""Builds that are killed, and builds that meet: what is published is always whole and the same."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llmjp_builder.contracts.errors import OutputExists
from llmjp_builder.contracts.spec import BuildSpec, LayoutOptions, Source
from llmjp_builder.convert.conversion import convert_checkpoint, prepare_ranks
from llmjp_builder.pipeline import build
from llmjp_builder.progress import Reporter
from llmjp_builder.store.files import new_folder
from llmjp_builder.store.store import Store, check_artefact
from tests.engine_builder.checkpoints import tree
from tests.support.soak import count

CHILD = """
import os, signal, sys
import llmjp_builder.convert.execution
from pathlib import Path
from llmjp_builder.convert.conversion import convert_checkpoint, prepare_ranks
from llmjp_builder.contracts.errors import OutputExists
from llmjp_builder.pipeline import build
from llmjp_builder.progress import Reporter
from llmjp_builder.contracts.spec import BuildSpec, LayoutOptions, Source
"""

KILLED = (
    CHILD
    + """
# Dies by SIGKILL at the n-th system call that the file system sees; n = 0 counts them.
what, source, place, n = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
count = 0
def hook(event, arguments):
    global count
    if event in {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}:
        count += 1
        if count == n:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
if what == "build":
    build(BuildSpec(source=Source(path=str(source)), tensor_parallel=2), store=place)
else:
    conversion = prepare_ranks(source, LayoutOptions(tensor_parallel=2))
    convert_checkpoint(conversion, place, Reporter(None))
print(count)
"""
)

MEETING = (
    CHILD
    + """
# Says every step, and goes on from 'convert' when a line arrives.
def show(progress):
    print(progress.step, progress.message, flush=True)
    if progress.step == "convert" and progress.percent == 0 and "converting" in progress.message:
        sys.stdin.readline()
spec = BuildSpec(source=Source(path=sys.argv[1]))
result = build(spec, store=Path(sys.argv[2]), on_progress=show)
print("hit" if result.cache_hit else "built", result.path, flush=True)
"""
)


def killed(what: str, source: Path, place: Path, n: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", KILLED, what, str(source), str(place), str(n)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def moments(what: str, source: Path, place: Path) -> list[int]:
    """A few moments of the whole run, the last ones always among them: there it publishes."""
    total = int(killed(what, source, place, 0).stdout)
    chosen = random.Random(7).sample(range(1, total), count(5, min(50, total - 1)))
    return sorted({*chosen, total - 2, total - 1, total})


@pytest.mark.slow
def test_a_killed_build_leaves_nothing_that_counts(source: Path, tmp_path: Path) -> None:
    spec = BuildSpec(source=Source(path=str(source)), tensor_parallel=2)
    whole = tree(build(spec, store=tmp_path / "reference").path)
    for n in moments("build", source, tmp_path / "counted"):
        store = tmp_path / f"store{n}"
        assert killed("build", source, store, n).returncode == -signal.SIGKILL
        for key in Store(store).list_keys():
            check_artefact(store / "artefacts" / key)
        assert tree(build(spec, store=store).path) == whole
        assert list((store / "work").iterdir()) == []


@pytest.mark.slow
def test_a_killed_conversion_leaves_nothing_that_counts(source: Path, tmp_path: Path) -> None:
    convert_checkpoint(
        prepare_ranks(source, LayoutOptions(tensor_parallel=2)),
        tmp_path / "reference",
        Reporter(None),
    )
    whole = tree(tmp_path / "reference")
    for n in moments("convert", source, tmp_path / "counted"):
        parent = tmp_path / f"at{n}"
        assert killed("convert", source, parent / "out", n).returncode == -signal.SIGKILL
        if (parent / "out").exists():
            assert tree(parent / "out") == whole
            continue
        convert_checkpoint(
            prepare_ranks(source, LayoutOptions(tensor_parallel=2)), parent / "out", Reporter(None)
        )
        assert tree(parent / "out") == whole
        assert [path.name for path in parent.iterdir()] == ["out"]


def test_the_work_of_a_killed_build_of_another_key_is_removed(source: Path, tmp_path: Path) -> None:
    left = tmp_path / "store" / "work" / ("0" * 20)
    left.mkdir(parents=True)
    (left / "rank0.safetensors").write_bytes(b"half")
    build(BuildSpec(source=Source(path=str(source))), store=tmp_path / "store")
    assert not left.exists()


@contextmanager
def builder(source: Path, store: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", MEETING, str(source), str(store)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str], words: str) -> str:
    """The next line that has `words` in it."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return line.strip()
    pytest.fail("".join(lines))


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_of_two_builders_one_works_and_one_waits(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with builder(source, store) as first:
        said(first, "converting")
        with builder(source, store) as second:
            said(second, "another process is building")
            go_on(first)
            assert said(first, "built").split()[1] == said(second, "hit").split()[1]


def test_the_waiting_builder_works_when_the_first_dies(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with builder(source, store) as first:
        said(first, "converting")
        with builder(source, store) as second:
            said(second, "another process is building")
            first.kill()
            said(second, "converting")
            go_on(second)
            path = Path(said(second, "built").split()[1])
    assert check_artefact(path).key == path.name


def test_a_conversion_under_way_is_not_disturbed(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    slow = new_folder(out)
    work = slow.__enter__()
    (work / "mine").write_text("half")
    convert_checkpoint(prepare_ranks(source, LayoutOptions()), out, Reporter(None))
    assert (work / "mine").exists()
    with pytest.raises(OutputExists):
        slow.__exit__(None, None, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf", "out"]
    assert (out / "rank0.safetensors").exists()
