"""Processes that others started: found through /proc, killed, reaped; and the request to end."""

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
    """Return every living process below `pid`, as far as /proc tells."""
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
    """Return the first process that was started with exactly this argument."""
    for pid in pids:
        with suppress(OSError):
            if argument.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return pid
    return None


def is_alive(pid: int) -> bool:
    """Return whether it runs; a process that ended but was not reaped does not."""
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
    """Reap processes that ended as our children though we did not start them.

    Only the first process of a container gets such, and has to: each holds a process id until then.

    Args:
        own: the child whose exit status the caller waits for. While it is next in line, others
            wait.
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
    """A request to end the server, and when it came. Called, it is a signal handler.

    A handler interrupts any code, so it takes no lock and leaves everything else to the loops that
    check this value.
    """

    requested_at_s: float | None = None
    """On the clock of `time.monotonic`."""

    def __call__(self, *_: object) -> None:
        """Record the time; the first call counts."""
        if self.requested_at_s is None:
            self.requested_at_s = time.monotonic()
