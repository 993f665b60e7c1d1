"""`llmjp serve` as a container's first process: signals, orphans, a file system it cannot write to.

A namespace of processes and mounts stands for the container.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llmjp_client import Client
from llmjp_runtime.server.processes import is_alive, list_descendants
from tests.support.serve_command import Served, served
from tests.support.shared import ROOT
from tests.triton.test_drain import streams
from tests.triton.test_failures import until

READ_ONLY = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mkdir /mnt/artefact
mount --bind "$ARTEFACT" /mnt/artefact
while read -r _ folder kind _; do
    case "$kind" in proc | sysfs | cgroup* | devpts | mqueue) continue ;; esac
    mount -o remount,bind,ro "$folder" 2> /dev/null || true
done < <(tac /proc/mounts)
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /dev/shm
for folder in /etc /mnt /mnt/artefact "$CHECKOUT" "$CHECKOUT/.venv"; do
    if touch "$folder/written" 2> /dev/null; then echo "$folder can be written to" >&2; exit 9; fi
done
cd /
exec "$@"
"""
"""Everything is read-only but /tmp and /dev/shm, as in the pods of the operator."""


@pytest.fixture(scope="module")
def unshare() -> str:
    """The command; skips where it may not make namespaces."""
    found = shutil.which("unshare")
    if found is None or subprocess.run([found, "-pmf", "true"], check=False).returncode:
        pytest.skip("namespaces of processes and mounts need util-linux and root")
    return found


@contextmanager
def first_process(artefact: Path, unshare: str, *options: object) -> Iterator[tuple[Served, int]]:
    """The command as process 1 of a namespace, and its process id out here."""
    with served(artefact, *options, before=(unshare, "-pf", "--mount-proc")) as server:
        server.wait_ready()
        (first,) = children(server.process.pid)
        status = Path(f"/proc/{first}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("NSpid:")]
        assert line.split()[-1] == "1"
        yield server, first


def children(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(child) for child in found.stdout.split()]


def test_sigterm_reaches_the_server_and_streams_end(artefact: Path, unshare: str) -> None:
    with first_process(artefact, unshare) as (server, first):
        pids = list_descendants(first)
        with streams(server.endpoint, 1) as asked:
            os.kill(first, signal.SIGTERM)
            assert asked[0].ended() == "length"
        assert server.wait() == 0, server.stderr
    assert not any(map(is_alive, [first, *pids]))


def test_the_container_ends_in_time_whatever_runs(artefact: Path, unshare: str) -> None:
    options = ("--max-batch-size", 1, "--exit-timeout", 1)
    with first_process(artefact, unshare, *options) as (server, first):
        with streams(server.endpoint, 30):
            os.kill(first, signal.SIGTERM)
            assert server.wait() == 1, server.stderr
        assert "had not ended 1 s after" in server.lines[-1]


def test_orphans_are_collected(artefact: Path, unshare: str) -> None:
    nsenter = shutil.which("nsenter")
    assert nsenter, "it comes with unshare"
    with first_process(artefact, unshare) as (server, first):
        own = set(children(first))
        leaving = "sleep 600 < /dev/null > /dev/null 2>&1 &"
        subprocess.run(
            [nsenter, "-t", str(first), "-p", "-m", "sh", "-c", leaving], check=True, timeout=60
        )
        (adopted,) = set(children(first)) - own
        os.kill(adopted, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{adopted}").exists(), "the orphan is collected")
        os.kill(first, signal.SIGTERM)
        assert server.wait() == 0, server.stderr


def test_only_tmp_and_shared_memory_are_written_to(artefact: Path, unshare: str) -> None:
    if ROOT.is_relative_to("/tmp"):
        pytest.skip("the checkout is where a folder of its own goes")
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"HOME", "TMPDIR"} and not name.startswith("XDG_")
    }
    environment |= {"ARTEFACT": str(artefact), "CHECKOUT": str(ROOT)}
    before = (unshare, "-pmf", "--mount-proc", "bash", "-c", READ_ONLY, "bash")
    with served(Path("/mnt/artefact"), before=before, env=environment) as server:
        server.wait_ready()
        with Client(server.endpoint) as client:
            assert client.generate("日本の首都は", max_tokens=4).text
        (first,) = children(server.process.pid)
        os.kill(first, signal.SIGTERM)
        assert server.wait() == 0, server.stderr
