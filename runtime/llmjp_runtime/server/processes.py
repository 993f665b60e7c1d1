"""Processes that others started: found through /proc, ended, and collected where that is ours."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

INIT = 1
"""The process that inherits orphans, of a machine or a container."""


def list_descendants(pid: int) -> list[int]:
    """Every living process below `pid`, as far as /proc tells."""
    parents = dict(_read_parents())
    found = [pid]
    for above in found:
        found += [child for child, parent in parents.items() if parent == above]
    return found[1:]


def _read_parents() -> Iterable[tuple[int, int]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                # The name, in brackets, may hold anything.
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    yield int(folder.name), int(parent)


def find_by_argument(pids: Iterable[int], argument: str) -> int | None:
    """The first process that was started with exactly this argument."""
    for pid in pids:
        with suppress(OSError):
            if argument.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return pid
    return None


def is_alive(pid: int) -> bool:
    """Whether it has not ended; what ended and was not collected has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill_processes(pids: Iterable[int]) -> None:
    """End them at once; those that are gone already are fine."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def reap_orphans(own: int) -> None:
    """Let go of processes that ended as our children without our having started them.

    Only the first process of a container gets such, and has to: each holds a process id until then.

    Args:
        own: the child whose exit status somebody else here waits for. While it is the one to be
            collected next, others wait.
    """
    if os.getpid() != INIT:
        return
    with suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if ended.si_pid == own:
                return
            os.waitpid(ended.si_pid, 0)


@dataclass(slots=True)
class ShutdownRequest:
    """Whether the server was asked to end, and when. Called, it is the handler of a signal.

    A handler interrupts whatever runs, so it takes no lock and leaves everything else to the loops
    that look here.
    """

    requested_at_s: float | None = None
    """On the clock of `time.monotonic`."""

    def __call__(self, *_: object) -> None:
        """Ask for it; the first time counts."""
        if self.requested_at_s is None:
            self.requested_at_s = time.monotonic()
