"""Processes as Linux shows and ties them: who lives and dies with whom."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
"""Both: prctl(2)."""


def die_with_parent(parent: int) -> Callable[[], None]:
    """A `preexec_fn`: the kernel kills the new process when `parent`, which starts it, dies."""
    libc = ctypes.CDLL(None, use_errno=True)  # before the fork: the child may not load libraries

    def arm() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel was told
            os._exit(1)

    return arm


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent dies."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_descendants() -> None:
    """Kill whatever descends from this process, which adopts orphans, and reap it to the last."""
    own = os.getpid()
    while True:
        for pid in descendants(own) - {own}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def descendants(pid: int) -> set[int]:
    """The process and everything below it that lives, as /proc shows it now."""
    parents = {
        int(entry.name): fields[1]
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) and fields[0] != "Z"
    }
    found = {pid} & parents.keys()
    while below := {child for child, parent in parents.items() if int(parent) in found} - found:
        found |= below
    return found


def lives(pid: int) -> bool:
    """Whether the process exists and is not merely waiting to be reaped."""
    fields = _stat(pid)
    return bool(fields) and fields[0] != "Z"


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat from its third field, the state, on; empty where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return []


def resident_bytes(pid: int) -> int:
    """Memory of a process; 0 when it is gone."""
    with contextlib.suppress(OSError):
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0


def process_name(pid: int) -> str:
    """What the process was called by; of our own Python processes the module's."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        if "-m" in words[:3]:
            return words[words.index("-m") + 1]
        return Path(words[0]).name
    return "gone"
