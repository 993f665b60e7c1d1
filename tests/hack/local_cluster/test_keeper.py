"""Keeper and supervisor with shell commands for components: every way to end, in milliseconds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from hack.local_cluster import wait_until
from hack.local_cluster.errors import ComponentDied, NotReadyInTime, SetupFailed
from hack.local_cluster.plan import ApiAccess, Component, Plan, Ready
from hack.local_cluster.processes import descendants
from hack.local_cluster.slot import Slot, take_slot
from hack.local_cluster.status import Status, read_status
from tests.hack.local_cluster.starter import assert_dead, wait_until_free
from tests.support.shared import ROOT

NOWHERE = ApiAccess(server="https://127.0.0.1:1", authority="", certificate="", key="")
FOREVER = "sleep 1000 & sleep 1000"


def component(name: str, script: str, *after: str, ready: Ready | None = None) -> Component:
    return Component(name=name, command=("sh", "-c", script), after=after, ready=ready)


def plan(slot: Slot, *components: Component, setup: tuple[str, ...] = ("true",)) -> Plan:
    logs = slot.folder / "log"
    logs.mkdir()
    return Plan(
        folder=str(slot.folder),
        logs=str(logs),
        timeout_s=0.5,
        path=os.environ["PATH"],
        api=NOWHERE,
        components=components,
        setup=(setup,),
    )


@dataclass
class Kept:
    slot: Slot
    keeper: subprocess.Popen[bytes]

    @property
    def folder(self) -> Path:
        return self.slot.folder

    def until(self, phase: str) -> Status:
        def look() -> tuple[bool, object]:
            status = read_status(self.folder)
            return status is not None and status.phase == phase, status

        wait_until(phase, look, timeout_s=20)
        status = read_status(self.folder)
        assert status is not None
        return status

    def ends(self) -> None:
        assert self.keeper.wait(20) is not None
        if self.keeper.stdin is not None:
            self.keeper.stdin.close()


def keep(home: Path, *components: Component, setup: tuple[str, ...] = ("true",)) -> Kept:
    slot = take_slot(home)
    file = slot.folder / "plan.json"
    file.write_text(plan(slot, *components, setup=setup).to_json(), "utf-8")
    fd = str(slot.lock_fd)
    keeper = subprocess.Popen(
        [sys.executable, "-m", "hack.local_cluster.keeper", str(file), fd, fd, "lifeline"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        pass_fds=(slot.lock_fd,),
    )
    slot.let_go()
    return Kept(slot, keeper)


def test_components_start_in_order_and_end_with_the_starter(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    kept = keep(
        tmp_path,
        component("second", f"test -e {gate} || exit 1; {FOREVER}", "first"),
        component("first", f"touch {gate}; {FOREVER}"),
    )
    assert kept.until("ready").ready == ("first", "second")
    processes = descendants(kept.keeper.pid)
    assert len(processes) >= 4
    assert kept.keeper.stdin is not None
    kept.keeper.stdin.close()  # all that a killed starter does
    kept.ends()
    assert_dead(processes)
    assert not kept.folder.exists()
    wait_until_free(kept.folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all(tmp_path: Path, number: signal.Signals) -> None:
    kept = keep(tmp_path, component("a", FOREVER))
    kept.until("ready")
    processes = descendants(kept.keeper.pid)
    kept.keeper.send_signal(number)
    kept.ends()
    assert_dead(processes)
    assert not kept.folder.exists()


def test_a_killed_keeper_leaves_no_component_and_its_folder_to_the_next(tmp_path: Path) -> None:
    kept = keep(tmp_path, component("a", "exec sleep 1000"), component("b", "exec sleep 1000"))
    kept.until("ready")
    processes = descendants(kept.keeper.pid)
    kept.keeper.kill()
    kept.ends()
    wait_until_free(kept.folder)
    assert_dead(processes)
    assert (kept.folder / "plan.json").exists()
    again = take_slot(tmp_path)
    assert again.folder == kept.folder
    assert not list(again.folder.iterdir())
    again.let_go()


def test_a_killed_supervisor_ends_all(tmp_path: Path) -> None:
    kept = keep(tmp_path, component("a", FOREVER))
    kept.until("ready")
    processes = descendants(kept.keeper.pid)
    supervisor = min(processes - {kept.keeper.pid})
    os.kill(supervisor, signal.SIGKILL)
    kept.ends()
    assert_dead(processes)


def test_a_component_that_ends_is_named_with_its_reason(tmp_path: Path) -> None:
    kept = keep(
        tmp_path, component("good", FOREVER), component("bad", "echo Error: no disk; exit 3")
    )
    failure = kept.until("failed").failure
    kept.ends()
    assert failure is not None
    error = failure.error()
    assert isinstance(error, ComponentDied)
    assert str(error).startswith("bad ended with status 3: Error: no disk (log: ")
    assert error.log.read_text("utf-8") == "Error: no disk\n"  # logs outlive a failure
    wait_until_free(kept.folder)


def test_a_component_that_is_never_ready_is_named(tmp_path: Path) -> None:
    never = Ready(kind="socket", target=str(tmp_path / "none.sock"))
    kept = keep(tmp_path, component("slow", f"echo thinking; {FOREVER}", ready=never))
    failure = kept.until("failed").failure
    kept.ends()
    assert failure is not None
    error = failure.error()
    assert isinstance(error, NotReadyInTime)
    assert "slow is not ready after 0 s; last it said: thinking" in str(error)


def test_a_failing_setup_starts_nothing(tmp_path: Path) -> None:
    kept = keep(tmp_path, component("a", FOREVER), setup=("sh", "-c", "echo no device >&2; exit 2"))
    status = kept.until("failed")
    kept.ends()
    assert status.failure is not None
    error = status.failure.error()
    assert isinstance(error, SetupFailed)
    assert "exit status 2: no device" in str(error)
    assert not (kept.folder / "log" / "a.log").exists()
