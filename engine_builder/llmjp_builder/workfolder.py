"""Folders that appear whole or not at all, and locks that die with their process."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from llmjp_builder.disk import os_errors, sync_directory
from llmjp_builder.errors import OutputExists

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A work folder beside `out` that takes its name when the block ends without an error.

    What a killed process left behind is removed by the next one that writes to the same `out`.

    Raises:
        OutputExists: `out` exists, now or when the block ends.
    """
    _require_absent(out)
    with os_errors(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{out.name}.partial-"
    _remove_abandoned(out.parent, prefix)
    with _owned_folder(out.parent, prefix) as work:
        yield work
        _require_absent(out)
        with os_errors(out):
            work.rename(out)
        sync_directory(out.parent)


@contextmanager
def fresh_folder(path: Path) -> Iterator[Path]:
    """An empty folder at `path`; whatever is still there when the block ends is removed."""
    with os_errors(path):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def locked(
    path: Path, *, on_wait: Callable[[], None] | None, shared: bool = False
) -> Iterator[bool]:
    """Holds a lock on the file `path`; the system drops it when the process dies.

    Who holds the lock alone may remove the file: whoever waited for it takes the lock of the file
    that has the name then.

    Args:
        path: made if missing.
        on_wait: called once before waiting for another holder; None means not to wait.
        shared: whether others that share it may hold it as well.

    Yields:
        Whether the lock is held.
    """
    mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    descriptor = _open_lock(path)
    try:
        held = _try_lock(descriptor, mode)
        if not held and on_wait is not None:
            on_wait()
            fcntl.flock(descriptor, mode)
            held = True
        while held and not _has_name(descriptor, path):
            os.close(descriptor)
            descriptor = _open_lock(path)
            if on_wait is None:
                held = _try_lock(descriptor, mode)
            else:
                fcntl.flock(descriptor, mode)
        yield held
    finally:
        os.close(descriptor)


@contextmanager
def _owned_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder whose own lock says that its process lives; removed when the block ends."""
    with os_errors(parent):
        work = parent / f"{prefix}{uuid.uuid4().hex}"
        work.mkdir()
        descriptor = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # network file systems may lock no folders; then nobody tidies up
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        os.close(descriptor)


def _remove_abandoned(parent: Path, prefix: str) -> None:
    for left in parent.glob(f"{prefix}*"):
        with suppress(OSError):
            descriptor = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(descriptor)


def _open_lock(path: Path) -> int:
    with os_errors(path):
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


def _try_lock(descriptor: int, mode: int) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _has_name(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one at `path`."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _require_absent(out: Path) -> None:
    with os_errors(out):
        taken = os.path.lexists(out)
    if taken:
        raise OutputExists(f"{out}: exists already; remove it or choose another folder")
