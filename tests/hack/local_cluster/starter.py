"""A cluster whose starter is another process, which a test may kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hack.local_cluster import install, wait_until
from hack.local_cluster.errors import RootNeeded, ToolsMissing
from hack.local_cluster.processes import descendants, lives, process_name
from hack.local_cluster.slot import held_slots
from tests.support.shared import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hack.local_cluster import Level

SCRIPT = """
import json, sys
from hack.local_cluster import start
cluster = start(sys.argv[1])
print(json.dumps([cluster.slot, str(cluster.folder)]), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Starter:
    """The other process and its cluster."""

    process: subprocess.Popen[str]
    slot: int
    folder: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def keeper(self) -> int:
        holder = held_slots(self.folder.parent)[self.folder]
        assert holder is not None
        return holder.pid

    def processes(self) -> dict[int, str]:
        """All of the cluster's: process id to name."""
        return {pid: process_name(pid) for pid in descendants(self.keeper)}

    def wait_until_slot_is_free(self) -> None:
        """Every process of a cluster holds the slot's lock: free means all are dead."""
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

        wait_until_free(self.folder)


def wait_until_free(folder: Path) -> None:
    """Until no process holds the lock of the slot with this folder."""

    def is_free() -> tuple[bool, object]:
        held = held_slots(folder.parent)
        return folder not in held, held

    wait_until("the slot is free", is_free, timeout_s=30)


def start_in_another_process(level: Level) -> Starter:
    try:
        install(level, os.environ, build=False)
    except (RootNeeded, ToolsMissing) as exc:
        pytest.skip(str(exc))
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, level],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    slot, folder = json.loads(process.stdout.readline())
    return Starter(process, slot, Path(folder))


def assert_dead(processes: Iterable[int]) -> None:
    """None of them lives; one that has just been killed may take the kernel a moment."""

    def dead() -> tuple[bool, object]:
        left = {pid: process_name(pid) for pid in processes if lives(pid)}
        return not left, left

    wait_until("all processes are dead", dead, timeout_s=5)
