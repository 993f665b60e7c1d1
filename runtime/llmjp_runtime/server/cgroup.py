"""The limits that a container's cgroups set, which a machine's own numbers do not show.

cgroup v2 (Documentation/admin-guide/cgroup-v2.rst of Linux) and v1; on a machine that has both,
both count. The folders above a cgroup limit it as well; of those that a container cannot see, the
last one visible is its own.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MOUNT: Final = Path("/sys/fs/cgroup")
MEMBERSHIP: Final = Path("/proc/self/cgroup")


def count_usable_threads(*, mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> int | None:
    """Return how many threads get a core each; None if that is all cores.

    A limit of 1.5 cores is one thread: two would wait for each other while the kernel holds one
    back.
    """
    limit = read_cpu_limit(mount=mount, membership=membership)
    cores = len(os.sched_getaffinity(0))
    return None if limit is None or limit >= cores else max(int(limit), 1)


def read_cpu_limit(*, mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> float | None:
    """Return the cores that may be used on average; None if nothing limits them."""
    quotas = [
        *(_read_words(folder / "cpu.max") for folder in _list_folders(mount, membership, "")),
        *(
            _read_words(folder / "cpu.cfs_quota_us") + _read_words(folder / "cpu.cfs_period_us")
            for folder in _list_folders(mount, membership, "cpu")
        ),
    ]
    limits = [
        int(words[0]) / int(words[1])
        for words in quotas
        if len(words) == 2 and words[0] not in {"max", "-1"}
    ]
    return min(limits, default=None)


def count_oom_kills(*, mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> int:
    """Count the processes that the kernel has killed because of our memory limit."""
    for controller, name in (("", "memory.events"), ("memory", "memory.oom_control")):
        for folder in _list_folders(mount, membership, controller):
            # Of the folders above, others count as well.
            if words := _read_words(folder / name):
                return int(dict(zip(words[::2], words[1::2], strict=True)).get("oom_kill", 0))
    return 0


def _list_folders(mount: Path, membership: Path, controller: str) -> Iterator[Path]:
    """Yield our cgroup of a controller and all above it; v2's only tree has an empty name."""
    with suppress(OSError):
        for line in membership.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                root = mount / controller
                folder = root / path.strip("/")
                yield from (folder, *(up for up in folder.parents if up.is_relative_to(root)))


def _read_words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
