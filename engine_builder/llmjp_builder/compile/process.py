"""The process of `trtllm-build`: log, time limit, and no child of it left behind."""

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
from llmjp_builder.compile.failures import CompilerExit
from llmjp_builder.compile.gpu import read_oom_kills
from llmjp_builder.store.files import os_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_TICK_S = 0.2
"""Seconds between checks for time limit, exit and cancellation while nothing is printed."""
_EXIT_S = 0.01
"""Roughly the time between a process closing its output and its exit."""
_TAIL_LINES = 400
"""Lines kept for classification; tracebacks of several ranks are interleaved."""
_MAX_LINE_BYTES = 64 << 10
"""A longer line is split, so no output can make the builder grow."""

_CHANGES_ENGINES = "BUILDER_FORCE_NUM_PROFILES"
"""Changes engines but is part of no key, so it must not reach `trtllm-build`."""


def run_process(
    command: Sequence[str],
    *,
    cwd: Path,
    log: Path,
    time_limit_s: float | None,
    on_line: Callable[[str], None],
    on_tick: Callable[[float], None],
) -> CompilerExit:
    """Run `command` to its end.

    An exception from `on_line` or `on_tick` stops the run with all its processes, and so does any
    end of this process.

    Args:
        command: argument vector, with a path as program.
        cwd: its working folder.
        log: file for all of its output, overwritten.
        time_limit_s: when to stop it; None means never.
        on_line: called with every line of output.
        on_tick: called several times a second with the seconds since the start.
    """
    before = read_oom_kills()
    with os_errors(log), log.open("wb") as file, _started(command, cwd) as process:
        reader = _OutputReader(process, file, on_line)
        began = time.monotonic()
        timed_out = False
        while not reader.poll(_TICK_S):
            elapsed = time.monotonic() - began
            if time_limit_s is not None and elapsed >= time_limit_s:
                timed_out = True
                break
            on_tick(elapsed)
        _end_group(process)
        reader.drain()
    after = read_oom_kills()
    return CompilerExit(
        status=process.returncode,
        tail=tuple(reader.tail),
        seconds=time.monotonic() - began,
        timed_out=timed_out,
        oom_kills=None if before is None or after is None else after - before,
    )


def prepare_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return our environment, unbuffered, and without variables that change engines unseen."""
    kept = {name: value for name, value in environ.items() if name != _CHANGES_ENGINES}
    return {**kept, "PYTHONUNBUFFERED": "1"}


@contextmanager
def _started(command: Sequence[str], cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(guard.__file__)), *command],
        cwd=cwd,
        env=prepare_environment(os.environ),
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
    """Kill what is left of the process's group, then reap the process.

    It is reaped last, since until then nobody else can get its id, which is also the group's.
    """
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Return whether the process has ended, without reaping it."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


class _OutputReader:
    """Copies a process's output to the log, the tail and the callback, line by line."""

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

    def poll(self, timeout_s: float) -> bool:
        """Read what is there, waiting up to `timeout_s`; return whether the process has ended."""
        if self._selector.select(timeout_s):
            chunk = os.read(self._pipe, 1 << 16)
            self._take(chunk)
            if not chunk:
                time.sleep(_EXIT_S)  # the pipe is closed, but the guard may still be exiting
        return _has_ended(self._process)

    def drain(self) -> None:
        """Read the rest, once every process that could write has ended."""
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
