"""GPUs of this machine, as `nvidia-smi` reports them, and the host's memory."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from llmjp_builder.contracts.errors import GpuMissing, UnsupportedGpu

_QUERY = (
    "nvidia-smi",
    "--query-gpu=name,compute_cap,memory.total",
    "--format=csv,noheader,nounits",
)
_QUERY_LIMIT_S = 60
"""Generous, since without a persistence daemon the driver initialises every GPU first."""

CGROUP = Path("/sys/fs/cgroup")
"""Version 2; without it the limits and kills of this container are unknown."""
_MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One kind of GPU, and the number of them."""

    product: str
    """The name with dashes for spaces, as in the node label `nvidia.com/gpu.product`."""
    compute_capability: str
    """For example `9.0`."""
    memory_bytes: int
    """Memory of one GPU."""
    count: int = 1

    @property
    def sm(self) -> int:
        """The compute capability as TensorRT-LLM writes it: 90 for `9.0`."""
        major, _, minor = self.compute_capability.partition(".")
        return int(major) * 10 + int(minor)


def parse_gpus(text: str) -> Gpu:
    """Parse the output of `nvidia-smi --query-gpu=name,compute_cap,memory.total`.

    Raises:
        GpuMissing: no GPU is listed, or a line cannot be read.
        UnsupportedGpu: the GPUs differ; an engine is built for exactly one kind.
    """
    found = [_parse_line(line) for line in text.splitlines() if line.strip()]
    if not found:
        raise GpuMissing("nvidia-smi lists no GPU; give the build at least one (nvidia.com/gpu: 1)")
    if kinds := sorted({gpu.product for gpu in found} - {found[0].product}):
        raise UnsupportedGpu(
            f"GPUs of several kinds: {found[0].product} and {', '.join(kinds)}; an engine is built "
            "for one kind, so make only that kind visible to the build"
        )
    return Gpu(
        product=found[0].product,
        compute_capability=found[0].compute_capability,
        memory_bytes=min(gpu.memory_bytes for gpu in found),
        count=len(found),
    )


def detect_gpus() -> Gpu:
    """Return the GPUs of this machine.

    Raises:
        GpuMissing: there is no driver, no GPU, or no answer.
        UnsupportedGpu: the GPUs differ.
    """
    try:
        answer = subprocess.run(
            _QUERY, capture_output=True, text=True, timeout=_QUERY_LIMIT_S, check=False
        )
    except FileNotFoundError as exc:
        raise GpuMissing(
            "nvidia-smi not found: compiling an engine needs an NVIDIA GPU and its driver; "
            "backend torch builds without one"
        ) from exc
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise GpuMissing(f"nvidia-smi gave no answer: {exc}") from exc
    if answer.returncode:
        said = (answer.stdout + answer.stderr).strip().splitlines()
        raise GpuMissing(
            f"nvidia-smi failed, status {answer.returncode}: {said[0] if said else 'no message'}"
        )
    return parse_gpus(answer.stdout)


def read_available_memory() -> int | None:
    """Return the bytes of memory that this container may still take; None if unknown."""
    bounds = [
        bound
        for bound in (_read_machine_available(), _read_container_available())
        if bound is not None
    ]
    return min(bounds, default=None)


def read_oom_kills() -> int | None:
    """Return how many processes of this container were killed for memory; None if unknown."""
    return _read_counter(CGROUP / "memory.events", "oom_kill")


def _parse_line(line: str) -> Gpu:
    fields = [field.strip() for field in line.rsplit(",", 2)]
    try:
        name, capability, mebibytes = fields
        major, minor = capability.split(".")
        memory = int(mebibytes) << 20
        gpu = Gpu(
            product="-".join(name.split()),
            compute_capability=f"{int(major)}.{int(minor)}",
            memory_bytes=memory,
        )
    except ValueError as exc:
        raise GpuMissing(
            f"nvidia-smi reports {line.strip()!r}; expected a name, a compute capability, mebibytes"
        ) from exc
    if not gpu.product or memory <= 0:
        raise GpuMissing(f"nvidia-smi reports {line.strip()!r}: no name or no memory")
    return gpu


def _read_machine_available() -> int | None:
    kibibytes = _read_counter(_MEMINFO, "MemAvailable:")
    return None if kibibytes is None else kibibytes << 10


def _read_container_available() -> int | None:
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
        cached = _read_counter(CGROUP / "memory.stat", "inactive_file") or 0
        return None if limit == "max" else max(0, int(limit) - used + cached)
    except (OSError, ValueError):
        return None


def _read_counter(file: Path, name: str) -> int | None:
    """Return the number after `name` in a file of names and numbers."""
    try:
        for line in file.read_text().splitlines():
            match line.split():
                case [first, number, *_] if first == name:
                    return int(number)
    except (OSError, ValueError):
        return None
    return None
