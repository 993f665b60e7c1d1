"""One run of `trtllm-build`: its log, its time limit, and no process of it left behind."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from llmjp_builder.compile import guard
from llmjp_builder.compile.failures import Ending
from llmjp_builder.compile.gpu import oom_kills
from llmjp_builder.store.files import os_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_TICK_S = 0.2
"""How often time limit, end and cancellation are looked for while nothing is printed."""
_EXIT_S = 0.01
"""How long a process takes that has closed its output and is about to exit, roughly."""
_TAIL_LINES = 400
"""Kept for classification: tracebacks of several ranks come interleaved."""
_MAX_LINE_BYTES = 64 << 10
"""A line longer than this is taken as several: no output makes the builder grow."""

_CHANGES_ENGINES = "BUILDER_FORCE_NUM_PROFILES"
"""Read by `trtllm-build`, but in no key: such an engine would pass for another."""


def run(
    command: Sequence[str],
    *,
    cwd: Path,
    log: Path,
    time_limit_s: float | None,
    on_line: Callable[[str], None],
    on_tick: Callable[[float], None],
) -> Ending:
    """Runs `command` to its end.

    Whatever `on_line` or `on_tick` raises ends the run with all its processes, as does the end of
    this process in any way.

    Args:
        command: argument vector, with a path as program.
        cwd: its working folder.
        log: file for all of its output, replaced.
        time_limit_s: after which it is ended; None for no limit.
        on_line: called with every line of output.
        on_tick: called several times a second with the seconds since the start.
    """
    before = oom_kills()
    with os_errors(log), log.open("wb") as file, _started(command, cwd) as process:
        reader = _Reader(process, file, on_line)
        began = time.monotonic()
        timed_out = False
        while not reader.ended(_TICK_S):
            elapsed = time.monotonic() - began
            if time_limit_s is not None and elapsed >= time_limit_s:
                timed_out = True
                break
            on_tick(elapsed)
        _end_group(process)
        reader.drain()
    after = oom_kills()
    return Ending(
        status=process.returncode,
        tail=tuple(reader.tail),
        seconds=time.monotonic() - began,
        timed_out=timed_out,
        oom_kills=None if before is None or after is None else after - before,
    )


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The process's environment: ours, unbuffered, and without what changes engines unseen."""
    kept = {name: value for name, value in environ.items() if name != _CHANGES_ENGINES}
    return {**kept, "PYTHONUNBUFFERED": "1"}


@contextmanager
def _started(command: Sequence[str], cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(guard.__file__)), *command],
        cwd=cwd,
        env=environment(os.environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _end_group(process)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends whatever is left of the process's group, and reaps the process.

    The process is reaped last: until then its number, which is the group's, belongs to nobody else.
    """
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended; it is not reaped."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


class _Reader:
    """Takes a process's output into the log, the tail, and the callback, line by line."""

    def __init__(
        self, process: subprocess.Popen[bytes], log: IO[bytes], on_line: Callable[[str], None]
    ) -> None:
        assert process.stdout is not None
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._process = process
        self._pipe = process.stdout.fileno()
        self._log = log
        self._on_line = on_line
        self._partial = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ)

    def ended(self, timeout_s: float) -> bool:
        """Reads what is there, waiting at most so long for it; whether the process has ended."""
        if self._selector.select(timeout_s):
            chunk = os.read(self._pipe, 1 << 16)
            self._take(chunk)
            if not chunk:
                time.sleep(_EXIT_S)  # nobody holds the pipe any more, but the guard still runs
        return _has_ended(self._process)

    def drain(self) -> None:
        """Reads the rest; every process that could write has ended."""
        os.set_blocking(self._pipe, False)  # a daemon that left the group may hold it open for ever
        with suppress(BlockingIOError):
            while chunk := os.read(self._pipe, 1 << 16):
                self._take(chunk)
        self._emit(self._partial)
        self._partial = b""
        self._selector.close()
        self._log.flush()

    def _take(self, chunk: bytes) -> None:
        self._log.write(chunk)
        self._log.flush()
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        for line in lines:
            self._emit(line)
        while len(self._partial) > _MAX_LINE_BYTES:
            self._emit(self._partial[:_MAX_LINE_BYTES])
            self._partial = self._partial[_MAX_LINE_BYTES:]

    def _emit(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        if text:
            self.tail.append(text)
            self._on_line(text)
