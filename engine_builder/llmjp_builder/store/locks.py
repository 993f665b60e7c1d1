"""Locks on files that die with their process."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from llmjp_builder.store.files import os_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def locked(
    path: Path, *, on_wait: Callable[[], None] | None, shared: bool = False
) -> Iterator[bool]:
    """Hold a lock on the file `path`; the system releases it when the process dies.

    An exclusive holder may remove the file: whoever waited for it then locks the file that has the
    name by then.

    Args:
        path: created if missing.
        on_wait: called once before waiting for another holder; None returns at once instead.
        shared: allow other shared holders.

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
    """Return whether the open file is still the one at `path`."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False
