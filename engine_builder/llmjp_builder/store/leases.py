"""Leases: records of who uses which item of a store. Standard library only.

<store>/uses/<name>/<user>.json     {"user": ..., "at": ..., "expires": ..., "label": ...}

Servers mount the store read-only and cannot record themselves that they read an artefact: `llmjp
serve` on a machine that may write, or the operator for its pods, does it here. `<name>` is an
artefact's key or the name of another item (`gc`). Items with a current lease are not collected; the
newest lease, ended or not, tells the last use. Times are seconds since 1970.
"""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from llmjp_builder.contracts.codec import decode, encode
from llmjp_builder.contracts.errors import BuilderError, InvalidSpec, MissingFile
from llmjp_builder.contracts.spec import to_canonical_json
from llmjp_builder.store.files import os_errors, replace_atomically
from llmjp_builder.store.locks import locked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
_MAX_USER = 80
_MAX_FILE = 200
"""Longest file name; file systems allow 255 bytes, and `replace_atomically` adds some."""

SKEW_S = 300
"""Tolerated clock skew between machines: a lease ends this much later than it says."""

LEASE_S = 3600
"""How long a renewed lease outlives its process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Record that a user uses an item of the store, or did."""

    user: str
    at: float
    """When it was last renewed."""
    expires: float | None = None
    """When it ends by itself; None means when it is released."""
    label: str | None = None
    """Description of the item for people; artefacts record nothing but their contents."""

    def is_current(self, now: float) -> bool:
        """Return whether the lease still holds."""
        return self.expires is None or now < self.expires + SKEW_S


def get_lease_lock(store: Path, name: str) -> Path:
    """Return the lock that users of `name` share and that its remover holds exclusively."""
    return store / "locks" / f"{name}.use"


def record_lease(
    store: Path,
    name: str,
    user: str,
    expires: float | None = None,
    *,
    now: float | None = None,
    label: str | None = None,
) -> None:
    """Record that `user` uses `name` from now until `expires`; replaces the user's earlier lease.

    Args:
        store: its folder.
        name: an artefact's key, or the name of another item.
        user: identifies the user, such as a pod's name.
        expires: None to hold until `release_lease`; `now` to note a use that has ended.
        now: the present.
        label: describes the item to people who list the store.

    Raises:
        InvalidSpec: not a name of an item, or too long a user.
        AccessDenied: the store cannot be written to.
    """
    lease = Lease(user=user, at=time.time() if now is None else now, expires=expires, label=label)
    path = _get_lease_path(store, name, user)
    with os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        (store / "locks").mkdir(exist_ok=True)
    with locked(get_lease_lock(store, name), on_wait=lambda: None, shared=True):
        with os_errors(path):
            path.parent.mkdir(exist_ok=True)
        replace_atomically(path, to_canonical_json(encode(lease)).encode())


def release_lease(
    store: Path, name: str, user: str, *, now: float | None = None, label: str | None = None
) -> None:
    """End the lease of `user` on `name`; the record stays, as it tells the last use."""
    present = time.time() if now is None else now
    record_lease(store, name, user, expires=present - SKEW_S, now=present, label=label)


def read_leases(store: Path, name: str) -> list[Lease]:
    """Return all leases on `name`, oldest first; an unreadable record is a lease without end."""
    folder = store / "uses" / name
    with os_errors(folder):
        found = sorted(folder.glob("*.json")) if folder.is_dir() else []
    return sorted(
        (lease for path in found if (lease := _read_lease(path))), key=lambda lease: lease.at
    )


def find_label(store: Path, name: str) -> str | None:
    """Return the newest label of `name`."""
    labels = [lease.label for lease in read_leases(store, name) if lease.label is not None]
    return labels[-1] if labels else None


def remove_ended_leases(store: Path, name: str, *, keep_last: bool, now: float) -> None:
    """Remove ended leases; the lease lock must be held exclusively.

    Args:
        store: its folder.
        name: of the item.
        keep_last: keep the newest lease in any case, and those with a label.
        now: the present.
    """
    leases = read_leases(store, name)
    over = [lease for lease in leases if not lease.is_current(now)]
    for lease in over:
        if not (keep_last and (lease is leases[-1] or lease.label is not None)):
            _get_lease_path(store, name, lease.user).unlink(missing_ok=True)
    with suppress(OSError):
        (store / "uses" / name).rmdir()


@contextmanager
def renewed_lease(artefact: Path, user: str, *, every_s: float = LEASE_S / 6) -> Iterator[None]:
    """Hold a lease on the artefact while the block runs, renewed by a thread.

    The lease of a killed process ends after `LEASE_S`. Where the artefact is in no store, or the
    store is mounted read-only, nothing is recorded: whoever mounted it has to do that.

    Args:
        artefact: its folder.
        user: see `record_lease`.
        every_s: how often the lease is renewed.

    Raises:
        MissingFile: the artefact was removed before the lease was recorded.
    """
    store, name = artefact.parent.parent, artefact.name
    if artefact.parent.name != "artefacts" or not _NAME.fullmatch(name):
        yield
        return
    try:
        record_lease(store, name, user, time.time() + LEASE_S)
    except BuilderError:
        yield
        return
    if not artefact.is_dir():
        raise MissingFile(f"{artefact}: was removed from the store")
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(every_s):
            with suppress(BuilderError):
                record_lease(store, name, user, time.time() + LEASE_S)

    thread = threading.Thread(target=renew, name="llmjp-use", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(BuilderError):
            release_lease(store, name, user)


def _get_lease_path(store: Path, name: str, user: str) -> Path:
    if not _NAME.fullmatch(name):
        raise InvalidSpec(f"{name!r}: nothing in a store has such a name")
    if not 0 < len(user) <= _MAX_USER or not user.isprintable():
        raise InvalidSpec(f"user {user!r}: expected 1 to {_MAX_USER} printable characters")
    if len(file := f"{quote(user, safe='')}.json") > _MAX_FILE:
        raise InvalidSpec(f"user {user!r}: too long for the name of a file")
    return store / "uses" / name / file


def _read_lease(path: Path) -> Lease | None:
    """Read a lease; None if it vanished meanwhile."""
    try:
        lease: Lease = decode(Lease, json.loads(path.read_bytes()), "Lease")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, BuilderError):
        with os_errors(path):
            return Lease(user=unquote(path.stem), at=path.stat().st_mtime)
    return lease
