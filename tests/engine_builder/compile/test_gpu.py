"""What nvidia-smi and the kernel say."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmjp_builder.compile import gpu as gpu_module
from llmjp_builder.compile.gpu import (
    Gpu,
    detect_gpus,
    parse_gpus,
    read_available_memory,
    read_oom_kills,
)
from llmjp_builder.contracts.errors import GpuMissing, UnsupportedGpu

H100_LINE = "NVIDIA H100 80GB HBM3, 9.0, 81559\n"


def test_eight_of_a_kind() -> None:
    assert parse_gpus(H100_LINE * 8) == Gpu(
        product="NVIDIA-H100-80GB-HBM3",
        compute_capability="9.0",
        memory_bytes=81559 << 20,
        count=8,
    )


@pytest.mark.parametrize(
    ("line", "product", "sm"),
    [
        ("NVIDIA H200, 9.0, 143771", "NVIDIA-H200", 90),
        ("Tesla T4, 7.5, 15360", "Tesla-T4", 75),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition, 12.0, 97887",
         "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", 120),
        ("Some, odd name, 8.6, 24576", "Some,-odd-name", 86),
    ],
)  # fmt: skip
def test_products_are_named_as_node_labels_are(line: str, product: str, sm: int) -> None:
    found = parse_gpus(line)
    assert (found.product, found.sm, found.count) == (product, sm, 1)


@pytest.mark.parametrize(
    "text",
    ["", "\n", "No devices were found\n", "NVIDIA H100, [N/A], 81559", "NVIDIA H100, 9.0, [N/A]",
     "NVIDIA H100, 9.0, 0", "H100, 9, 81559", "9.0, 81559"],
)  # fmt: skip
def test_no_gpu(text: str) -> None:
    with pytest.raises(GpuMissing):
        parse_gpus(text)


def test_gpus_of_two_kinds_are_refused() -> None:
    with pytest.raises(UnsupportedGpu, match="NVIDIA-H100-80GB-HBM3 and Tesla-T4"):
        parse_gpus(H100_LINE + "Tesla T4, 7.5, 15360\n")


def _nvidia_smi(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_detection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"[ $# = 2 ] && printf '{H100_LINE.strip()}\\n{H100_LINE.strip()}\\n'"
    _nvidia_smi(tmp_path, script, monkeypatch)
    assert detect_gpus().count == 2


def test_no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GpuMissing, match="nvidia-smi not found"):
        detect_gpus()
    _nvidia_smi(tmp_path, "echo NVIDIA-SMI has failed; exit 9", monkeypatch)
    with pytest.raises(GpuMissing, match="status 9: NVIDIA-SMI has failed"):
        detect_gpus()


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(gpu_module, "CGROUP", tmp_path)
    monkeypatch.setattr(gpu_module, "_MEMINFO", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    2000 kB\n")
    return tmp_path


def test_memory_of_the_machine_where_there_is_no_limit(cgroup: Path) -> None:
    assert read_available_memory() == 2000 << 10
    (cgroup / "memory.max").write_text("max\n")
    (cgroup / "memory.current").write_text("1\n")
    assert read_available_memory() == 2000 << 10


def test_memory_of_the_container(cgroup: Path) -> None:
    (cgroup / "memory.max").write_text("1000000\n")
    (cgroup / "memory.current").write_text("900000\n")
    assert read_available_memory() == 100_000
    (cgroup / "memory.stat").write_text("anon 1\ninactive_file 50000\n")
    assert read_available_memory() == 150_000


def test_nothing_is_known_without_files(cgroup: Path) -> None:
    (cgroup / "meminfo").unlink()
    assert read_available_memory() is None
    assert read_oom_kills() is None
    (cgroup / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert read_oom_kills() == 2
