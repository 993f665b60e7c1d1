"""One slot per running cluster on this machine: a number, a folder, and a lock on both.

Everything that two clusters could fight over follows from the number: folder, addresses, network
device, cgroup. Whoever holds the lock may use and clear all of these. Every process of a cluster
inherits the lock's file descriptor, and the kernel drops the lock with the last of them, however
they die: a slot is free exactly when no process of its cluster lives, and what a killed cluster
left on disk is cleared by the next one in its slot.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from hack.local_cluster.errors import ClusterError, SlotsTaken

SLOTS: Final = 32
"""Clusters per user and machine; slot numbers are a byte of an address."""
TEMPORARY: Final = Path("/var/tmp")  # noqa: S108  our folder in it is checked for its owner
"""On a disk, which /tmp often is not: images are unpacked here."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a slot, as its lock file says."""

    pid: int
    """The keeper."""
    level: str
    detached: bool
    """Started by `up`: lives until `down`."""


class Slot:
    """A slot that this process holds."""

    def __init__(self, home: Path, number: int, lock_fd: int) -> None:
        self.number = number
        self.lock_fd = lock_fd
        """File descriptor whose lock is the hold."""
        self.folder = _folder(home, number)

    def record(self, holder: Holder) -> None:
        """Note in the lock file who holds the slot."""
        os.ftruncate(self.lock_fd, 0)
        os.pwrite(self.lock_fd, json.dumps(asdict(holder)).encode(), 0)

    def clear(self) -> None:
        """Remove the folder of this slot. Must run where no mount of a node is visible."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def let_go(self) -> None:
        """Close this process's hold; the slot stays held while another process has it open."""
        os.close(self.lock_fd)


def slots_home() -> Path:
    """This user's folder of slots, made if missing.

    Raises:
        ClusterError: somebody else owns it.
    """
    home = TEMPORARY / f"llmjp-cluster-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    found = home.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ClusterError(f"{home} must be a folder that only you can use: remove it")
    return home


def take_slot(home: Path) -> Slot:
    """The first free slot, locked and empty.

    Raises:
        SlotsTaken: there is none.
    """
    for number in range(SLOTS):
        fd = os.open(_lock_path(home, number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _try_lock(fd, fcntl.LOCK_EX):
            os.close(fd)
            continue
        slot = Slot(home, number, fd)
        slot.clear()
        slot.folder.mkdir(mode=0o700)
        return slot
    raise SlotsTaken(SLOTS, home)


def held_slots(home: Path) -> dict[Path, Holder | None]:
    """Folder of every held slot, and who holds it: None in the moments of starting and ending."""
    found: dict[Path, Holder | None] = {}
    for number in range(SLOTS):
        path = _lock_path(home, number)
        if not path.exists():
            continue
        with path.open("r", encoding="utf-8") as file:
            if _try_lock(
                file.fileno(), fcntl.LOCK_SH
            ):  # shared: two who look do not see each other
                continue
            try:
                holder = Holder(**json.load(file))
            except ValueError:
                holder = None
            found[_folder(home, number)] = holder
    return found


def free_folders(home: Path) -> list[Path]:
    """Folders of slots that nobody holds: what failed or killed clusters left."""
    held = held_slots(home)
    return [folder for folder in sorted(home.glob("slot-??")) if folder not in held]


def _folder(home: Path, number: int) -> Path:
    return home / f"slot-{number:02d}"


def _lock_path(home: Path, number: int) -> Path:
    return _folder(home, number).with_suffix(".lock")


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
