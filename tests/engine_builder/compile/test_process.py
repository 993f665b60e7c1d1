"""Real processes: output, limits, and that none of them is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from llmjp_builder.compile.process import prepare_environment, run_process
from llmjp_builder.contracts.errors import MissingFile
from tests.engine_builder.compile.processes import MARK, new_mark, wait_for_count

if TYPE_CHECKING:
    from llmjp_builder.compile.failures import CompilerExit

FAMILY = "sleep 600 & sleep 600 & echo started; wait"
"""A shell with two children, as a compiler with two workers."""


def shell(
    script: str,
    folder: Path,
    *,
    time_limit_s: float | None = None,
    lines: list[str] | None = None,
) -> CompilerExit:
    return run_process(
        ["/bin/sh", "-c", script],
        cwd=folder,
        log=folder / "log",
        time_limit_s=time_limit_s,
        on_line=([] if lines is None else lines).append,
        on_tick=lambda _: None,
    )


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    mark = new_mark()
    monkeypatch.setenv(*mark.split("=", 1))
    return mark


def test_output_and_status(tmp_path: Path) -> None:
    lines: list[str] = []
    ending = shell("echo one; echo two >&2; printf three; exit 7", tmp_path, lines=lines)
    assert ending.status == 7
    assert lines == ["one", "two", "three"]
    assert ending.tail == ("one", "two", "three")
    assert (tmp_path / "log").read_text() == "one\ntwo\nthree"
    assert not ending.timed_out


def test_it_runs_in_its_folder_with_nothing_to_read(tmp_path: Path) -> None:
    lines: list[str] = []
    shell("pwd; cat; echo end", tmp_path, lines=lines)
    assert lines == [str(tmp_path), "end"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_signals_come_through(number: signal.Signals, tmp_path: Path) -> None:
    ending = shell(f"ulimit -c 0; kill -{int(number)} $$", tmp_path)
    assert ending.status == -number


def test_more_output_than_a_pipe_holds(tmp_path: Path) -> None:
    ending = shell("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done", tmp_path)
    assert len(ending.tail) == 400
    assert ending.tail[-1] == "line 19999"
    assert len((tmp_path / "log").read_text().splitlines()) == 20000


def test_a_line_without_end_does_not_grow_in_memory(tmp_path: Path) -> None:
    lines: list[str] = []
    shell("head -c 1000000 /dev/zero | tr '\\0' x", tmp_path, lines=lines)
    assert sum(map(len, lines)) == 1_000_000
    assert max(map(len, lines)) <= 64 << 10


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    lines: list[str] = []
    shell("printf 'a\\377b\\r\\n'", tmp_path, lines=lines)
    assert lines == ["a\ufffdb"]


def test_the_time_limit_ends_all_processes(tmp_path: Path, mark: str) -> None:
    ending = shell(FAMILY, tmp_path, time_limit_s=0.3)
    assert ending.timed_out
    assert ending.tail == ("started",)
    wait_for_count(mark, 0)


def test_what_the_command_leaves_behind_is_ended(tmp_path: Path, mark: str) -> None:
    ending = shell("sleep 600 & exit 3", tmp_path)
    assert ending.status == 3
    wait_for_count(mark, 0)


class _Cancelled(Exception):
    pass


def _cancel(_: object) -> None:
    raise _Cancelled


@pytest.mark.parametrize("callback", ["on_line", "on_tick"])
def test_cancellation_ends_all_processes(callback: str, tmp_path: Path, mark: str) -> None:
    on_line = _cancel if callback == "on_line" else (lambda _: None)
    on_tick = _cancel if callback == "on_tick" else (lambda _: None)
    with pytest.raises(_Cancelled):
        run_process(
            ["/bin/sh", "-c", FAMILY],
            cwd=tmp_path,
            log=tmp_path / "log",
            time_limit_s=None,
            on_line=on_line,
            on_tick=on_tick,
        )
    wait_for_count(mark, 0)


def test_the_builders_own_death_ends_all_processes(tmp_path: Path) -> None:
    mark = new_mark()
    script = (
        "import sys; from pathlib import Path; "
        "from llmjp_builder.compile.process import run_process; "
        "run_process(['/bin/sh', '-c', sys.argv[1]], cwd=Path('.'), log=Path('log'), "
        "time_limit_s=None, on_line=lambda line: print(line, flush=True), on_tick=lambda _: None)"
    )
    builder = subprocess.Popen(
        [sys.executable, "-c", script, FAMILY],
        cwd=tmp_path,
        env=dict(os.environ, **dict([mark.split("=", 1)])),
        stdout=subprocess.PIPE,
    )
    try:
        assert builder.stdout is not None
        assert builder.stdout.readline() == b"started\n"
        wait_for_count(mark, 5)
    finally:
        builder.kill()
        builder.wait()
        if builder.stdout is not None:
            builder.stdout.close()
    wait_for_count(mark, 0)


def test_a_log_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(MissingFile):
        shell("true", tmp_path / "nowhere")


def test_the_environment_has_nothing_that_changes_engines_unseen() -> None:
    found = prepare_environment({"PATH": "/bin", "BUILDER_FORCE_NUM_PROFILES": "1"})
    assert found == {"PATH": "/bin", "PYTHONUNBUFFERED": "1"}
    assert MARK not in found
