"""Which processes are alive that were started with a mark in their environment."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

MARK = "LLMJP_TEST_MARK"
_DEADLINE_S = 30.0


def new_mark() -> str:
    return f"{MARK}={uuid.uuid4()}"


def marked(mark: str) -> list[int]:
    """Process ids, this process left out."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        try:
            if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def wait_for_count(mark: str, count: int) -> None:
    """Returns when so many are alive; with fewer expected, ended ones may still be being reaped."""
    deadline = time.monotonic() + _DEADLINE_S
    while len(alive := marked(mark)) != count:
        assert time.monotonic() < deadline, f"{len(alive)} processes alive, expected {count}"
        time.sleep(0.02)
