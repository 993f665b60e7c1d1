"""Processes below others, and those that nobody collects."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from llmjp_runtime.server.processes import (
    find_by_argument,
    is_alive,
    kill_processes,
    list_descendants,
)

BELOW = """
import subprocess, sys
with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()", "marked"]) as child:
    print(child.pid, flush=True)
"""
ORPHANS = """
import os, subprocess, sys, time
from llmjp_runtime.server.processes import reap_orphans
assert os.getpid() == 1
own = subprocess.Popen(["sh", "-c", "exit 7"])
middle = "import subprocess; print(subprocess.Popen(['true']).pid)"
orphan = int(subprocess.run([sys.executable, "-c", middle], capture_output=True).stdout)
while own.poll() is None or os.path.exists(f"/proc/{orphan}"):
    reap_orphans(own.pid)
    time.sleep(0.01)
assert own.returncode == 7
print("collected")
"""


@contextmanager
def parent() -> Iterator[tuple[int, int]]:
    """A process and the one below it, which end with the block."""
    with subprocess.Popen(
        [sys.executable, "-c", BELOW], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        yield process.pid, int(process.stdout.readline())


def test_descendants_are_found_by_what_they_run() -> None:
    with parent() as (pid, child):
        assert list_descendants(pid) == [child]
        assert find_by_argument([pid, child], "marked") == child
        assert find_by_argument([pid, child], "mark") is None
        assert is_alive(child)
    assert not is_alive(child)
    assert list_descendants(pid) == []
    assert find_by_argument([child], "marked") is None


def test_killing_what_is_gone_is_fine() -> None:
    with parent() as (pid, child):
        kill_processes([child, child])
    kill_processes([pid, child])
    assert not is_alive(pid)


def test_the_first_process_of_a_container_collects_orphans() -> None:
    if not (unshare := shutil.which("unshare")):
        pytest.skip("unshare is not installed")
    done = subprocess.run(
        [unshare, "-pf", "--mount-proc", sys.executable, "-c", ORPHANS],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "Operation not permitted" in done.stderr:
        pytest.skip("a namespace of processes needs root")
    assert done.stdout == "collected\n", done.stderr
