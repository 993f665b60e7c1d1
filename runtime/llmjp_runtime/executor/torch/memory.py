"""Free memory of a device, asked before a large allocation."""

from __future__ import annotations

from pathlib import Path

import torch

from llmjp_runtime.errors import NotEnoughMemory

_GIB = 1 << 30
_CGROUP = Path("/sys/fs/cgroup")


def require_memory(what: str, num_bytes: int, device: torch.device, advice: str) -> None:
    """Refuse an allocation that does not fit.

    Raises:
        NotEnoughMemory: names the bytes needed, the bytes free, and `advice`.
    """
    free = read_free_memory(device)
    if free is not None and num_bytes > free:
        raise NotEnoughMemory(
            f"{what} needs {num_bytes / _GIB:.2f} GiB on {device},"
            f" {free / _GIB:.2f} GiB is free: {advice}"
        )


def read_free_memory(device: torch.device) -> int | None:
    """Return the bytes that can still be allocated on `device`; None if that is unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    readings = [
        reading
        for reading in (_read_machine_memory(), _read_cgroup_memory())
        if reading is not None
    ]
    return min(readings, default=None)


def _read_machine_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kib = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return None if kib is None else int(kib) * 1024


def _read_cgroup_memory() -> int | None:
    """Return what is left of this container's limit (cgroup v2); page cache counts as free."""
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        stat = dict(
            line.split() for line in (_CGROUP / "memory.stat").read_text("ascii").splitlines()
        )
    except (OSError, ValueError):
        return None
    return None if limit == "max" else int(limit) - used + int(stat.get("file", 0))
