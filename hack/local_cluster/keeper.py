"""Outlives the starter for as long as it takes to leave nothing behind.

Run as `python -m hack.local_cluster.keeper PLAN LOCK_FD HELD_FD LIFELINE`. It stays in the host's
namespaces, starts the supervisor (for a node: in new ones), and waits for the first of these: the
supervisor ends, SIGTERM or SIGINT arrives, or the starter dies, which closes the lifeline, a pipe
on standard input. Then it kills every process of the cluster, waits until none is left, and removes
cgroups, network device and folder.

If the keeper itself is killed the kernel kills the supervisor, and with it the rest; what lies on
disk is removed by the next cluster in the slot, but for the empty folders of the host that a node
mounts over.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hack.local_cluster import cgroups
from hack.local_cluster.plan import Plan
from hack.local_cluster.processes import adopt_orphans, die_with_parent, end_descendants
from hack.local_cluster.status import read_status

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMESPACES: Final = (
    *("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"),
)
"""The node's own: mounts, network and processes vanish with its last process."""


def keep(plan_file: Path, plan: Plan, *, lock_fd: int, lifeline: bool) -> None:
    """Hold the cluster until it, its starter or a signal ends it; leave nothing."""
    adopt_orphans()
    wake = _wake_up_on(signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
    made: list[Path] = []
    if plan.isolated:
        _clear_host(plan)
        cgroups.make(plan.cgroup)
        made = _make_masked(plan)
    try:
        supervisor = _start_supervisor(plan_file, plan, lock_fd)
        _wait(supervisor, wake, lifeline=lifeline)
        # First of all: it would take the end of a component that we end for a failure.
        supervisor.kill()
        supervisor.wait()
    finally:
        end_descendants()
        if plan.isolated:
            _clear_host(plan)
            for folder in reversed(made):
                with contextlib.suppress(OSError):  # somebody else uses it by now
                    folder.rmdir()
        _clear_folder(plan)
        os.ftruncate(lock_fd, 0)


def _wake_up_on(*signals: signal.Signals) -> int:
    """A file descriptor that becomes readable when one of `signals` arrives."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for each in signals:
        signal.signal(each, lambda _number, _frame: None)
    return reader


def _start_supervisor(plan_file: Path, plan: Plan, lock_fd: int) -> subprocess.Popen[bytes]:
    host_network = os.open("/proc/self/ns/net", os.O_RDONLY)
    supervisor = (sys.executable, "-m", "hack.local_cluster.supervisor", str(plan_file))
    with (Path(plan.logs) / "supervisor.log").open("ab") as log:
        return subprocess.Popen(
            [
                *(NAMESPACES if plan.isolated else ()),
                *supervisor,
                str(lock_fd),
                str(host_network),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(lock_fd, host_network),
            preexec_fn=die_with_parent(os.getpid()),  # noqa: PLW1509  we have one thread
        )


def _wait(supervisor: subprocess.Popen[bytes], wake: int, *, lifeline: bool) -> None:
    watched = [wake, sys.stdin.fileno()] if lifeline else [wake]
    while supervisor.poll() is None:
        readable, _, _ = select.select(watched, [], [])
        if sys.stdin.fileno() in readable:
            return
        woken_by = set(os.read(wake, 4096)) if wake in readable else set()
        if woken_by & {signal.SIGTERM, signal.SIGINT}:
            return


def _make_masked(plan: Plan) -> list[Path]:
    """Make the folders that the node mounts over, and its own; those of the host that are new."""
    made: list[Path] = []
    for host, own in plan.masks:
        Path(own).mkdir(parents=True)
        for folder in (*reversed(Path(host).parents), Path(host)):
            if not folder.exists():
                folder.mkdir()
                made.append(folder)
    return made


def _clear_host(plan: Plan) -> None:
    """Remove this slot's network device and cgroups, or those of a killed predecessor."""
    subprocess.run(
        ["ip", "link", "delete", plan.device],
        env={"PATH": plan.path},
        capture_output=True,  # most often: there is no such device
        check=False,
    )
    cgroups.remove(plan.cgroup)


def _clear_folder(plan: Plan) -> None:
    """Remove the state; after a failure its status and logs stay until the slot's next cluster.

    Nothing is mounted below the folder here: the node's mounts were in its own namespace.
    """
    folder = Path(plan.folder)
    status = read_status(folder)
    failed = status is not None and status.phase == "failed"
    kept = {"status.json", "log"} if failed else set()
    for entry in folder.iterdir():
        if entry.name in kept:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if not kept:
        folder.rmdir()


def main(arguments: Sequence[str]) -> int:
    """Keep the cluster of a plan file."""
    plan_file, lock_fd, held_fd, lifeline = arguments
    for fd in (int(lock_fd), int(held_fd)):
        os.set_inheritable(fd, False)
    plan = Plan.from_json(Path(plan_file).read_text("utf-8"))
    keep(Path(plan_file), plan, lock_fd=int(lock_fd), lifeline=lifeline == "lifeline")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
