"""One cgroup per node in every hierarchy, above all of its pods."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Final

REMOVAL_TIMEOUT_S: Final = 5.0
"""The kernel lets go of a cgroup a moment after its last process."""


def hierarchies(mounts: str) -> list[Path]:
    """Roots of the cgroup hierarchies in a mount table such as /proc/self/mounts (pure)."""
    rows = (line.split() for line in mounts.splitlines())
    return [Path(row[1]) for row in rows if len(row) > 2 and row[2] in {"cgroup", "cgroup2"}]


def make(name: str) -> None:
    """Make the cgroup `name` below every root."""
    for root in _roots():
        _delegate(root)
        (root / name).mkdir(exist_ok=True)


def remove(name: str) -> None:
    """Remove the cgroup `name` with all below it; no process is in them any more."""
    deadline = time.monotonic() + REMOVAL_TIMEOUT_S
    for root in _roots():
        top = root / name
        while top.exists():
            for folder in sorted(_folders(top), key=lambda path: -len(path.parts)):
                with contextlib.suppress(OSError):  # busy or gone: the next round tells
                    folder.rmdir()
            if time.monotonic() > deadline:
                return  # empty groups cost nothing and the slot's next node uses them again
            if top.exists():
                time.sleep(0.02)


def _roots() -> list[Path]:
    return hierarchies(Path("/proc/self/mounts").read_text("utf-8"))


def _folders(top: Path) -> list[Path]:
    return [top, *(path for path in top.rglob("*") if path.is_dir())] if top.exists() else []


def _delegate(root: Path) -> None:
    """Version 2: let groups below the root use its controllers, as the kubelet demands."""
    with contextlib.suppress(OSError):  # version 1 has no such files; a container may not write
        for controller in (root / "cgroup.controllers").read_text("ascii").split():
            (root / "cgroup.subtree_control").write_text(f"+{controller}", "ascii")
