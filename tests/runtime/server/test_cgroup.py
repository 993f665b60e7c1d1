"""Limits of cgroups, of both versions, on a made-up /sys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmjp_runtime.server.cgroup import count_oom_kills, count_usable_threads, read_cpu_limit


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    return tmp_path


def write(root: Path, files: dict[str, str]) -> dict[str, Path]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {"mount": root / "cgroup", "membership": root / "self"}


@pytest.mark.parametrize(
    ("files", "limit", "threads"),
    [
        pytest.param({}, None, None, id="nothing"),
        pytest.param({"self": "0::/\n"}, None, None, id="v2, no limit file"),
        pytest.param({"self": "0::/\n", "cgroup/cpu.max": "max 100000\n"}, None, None, id="v2 max"),
        pytest.param({"self": "0::/\n", "cgroup/cpu.max": "250000 100000\n"}, 2.5, 2, id="v2"),
        pytest.param({"self": "0::/\n", "cgroup/cpu.max": "50000 100000\n"}, 0.5, 1, id="half"),
        pytest.param({"self": "0::/\n", "cgroup/cpu.max": "1600000 100000\n"}, 16, None, id="many"),
        pytest.param(
            {
                "self": "0::/a/b\n",
                "cgroup/a/b/cpu.max": "max 100000\n",
                "cgroup/a/cpu.max": "300000 100000\n",
                "cgroup/cpu.max": "400000 100000\n",
            },
            3,
            3,
            id="v2, the smallest above",
        ),
        pytest.param(
            {
                "self": "4:memory:/x\n2:cpu,cpuacct:/kubepods/pod1/c1\n",
                "cgroup/cpu/cpu.cfs_quota_us": "400000\n",
                "cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            4,
            4,
            id="v1 in a container, which does not see the path",
        ),
        pytest.param(
            {
                "self": "1:cpu:/\n0::/\n",
                "cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
            None,
            id="v1, no limit",
        ),
    ],
)
def test_cpus(
    machine: Path, files: dict[str, str], limit: float | None, threads: int | None
) -> None:
    where = write(machine, files)
    assert read_cpu_limit(**where) == limit
    assert count_usable_threads(**where) == threads


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 0),
        ({"self": "0::/\n", "cgroup/memory.events": "low 0\noom 3\noom_kill 2\n"}, 2),
        ({"self": "3:memory:/\n", "cgroup/memory/memory.oom_control": "oom_kill 4\n"}, 4),
        (
            {
                "self": "0::/a\n",
                "cgroup/a/memory.events": "oom_kill 0\n",
                "cgroup/memory.events": "oom_kill 7\n",
            },
            0,
        ),
    ],
)
def test_the_kernels_kills(machine: Path, files: dict[str, str], count: int) -> None:
    assert count_oom_kills(**write(machine, files)) == count


def test_this_machine_can_be_asked() -> None:
    read_cpu_limit()
    assert count_oom_kills() >= 0
