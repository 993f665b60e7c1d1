"""Who uses what of a store, recorded by whoever starts them. Standard library only.

<store>/uses/<name>/<user>.json     {"user": ..., "at": ..., "expires": ..., "label": ...}

Servers mount the store read-only, so an artefact cannot know by itself who reads it: `llmjp serve`
on a machine that may write, or the operator for its pods, says so here. `<name>` is an artefact's
key or another name of something in the store (`gc`). What is in use is not collected, and
the newest record, expired or not, is its last use. Times are seconds since 1970.
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
from llmjp_builder.contracts.spec import canonical_json
from llmjp_builder.store.files import os_errors, replace_atomically
from llmjp_builder.store.locks import locked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
_MAX_USER = 80
_MAX_FILE = 200
"""Of 255 bytes that file systems allow, as `replace_atomically` adds some."""

SKEW_S = 300
"""How far the clocks of two machines may be apart: a use ends so much later than it says."""

LEASE_S = 3600
"""How long a record of a process that renews it holds after its death."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Somebody uses something, or did."""

    user: str
    at: float
    """When it was recorded last."""
    expires: float | None = None
    """When it ends by itself; None: when it is released."""
    label: str | None = None
    """What `name` is, in words that must not be in it: artefacts know their contents only."""

    def is_current(self, now: float) -> bool:
        """Whether it still holds."""
        return self.expires is None or now < self.expires + SKEW_S


def lock_of_use(store: Path, name: str) -> Path:
    """Held together by all processes that use `name`, and alone by the one that removes it."""
    return store / "locks" / f"{name}.use"


def record_use(
    store: Path,
    name: str,
    user: str,
    expires: float | None = None,
    *,
    now: float | None = None,
    label: str | None = None,
) -> None:
    """Says that `user` uses `name`, from now on and until `expires`; replaces what it said before.

    Args:
        store: its folder.
        name: an artefact's key, or the name of something else in the store.
        user: anything that tells this user from others, such as a pod's name.
        expires: None to hold until `release_use`; `now` to note a use that is over.
        now: the present.
        label: what it is, for people who look into the store.

    Raises:
        InvalidSpec: a name that nothing in a store has, or too long a user.
        NotPermitted: the store cannot be written to.
    """
    use = Use(user=user, at=time.time() if now is None else now, expires=expires, label=label)
    path = _path(store, name, user)
    with os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        (store / "locks").mkdir(exist_ok=True)
    with locked(lock_of_use(store, name), on_wait=lambda: None, shared=True):
        with os_errors(path):
            path.parent.mkdir(exist_ok=True)
        replace_atomically(path, canonical_json(encode(use)).encode())


def release_use(
    store: Path, name: str, user: str, *, now: float | None = None, label: str | None = None
) -> None:
    """`user` uses `name` no longer; that it did stays on record as the last use."""
    present = time.time() if now is None else now
    record_use(store, name, user, expires=present - SKEW_S, now=present, label=label)


def uses_of(store: Path, name: str) -> list[Use]:
    """All that is on record, oldest first; a record that cannot be read is a use without end."""
    folder = store / "uses" / name
    with os_errors(folder):
        found = sorted(folder.glob("*.json")) if folder.is_dir() else []
    return sorted((use for path in found if (use := _read(path))), key=lambda use: use.at)


def label_of(store: Path, name: str) -> str | None:
    """The newest label of `name` that is on record."""
    labels = [use.label for use in uses_of(store, name) if use.label is not None]
    return labels[-1] if labels else None


def forget_uses(store: Path, name: str, *, keep_last: bool, now: float) -> None:
    """Removes records of uses that are over; the lock of use must be held alone.

    Args:
        store: its folder.
        name: of what was used.
        keep_last: whether the newest record stays in any case, and those with a label.
        now: the present.
    """
    uses = uses_of(store, name)
    over = [use for use in uses if not use.is_current(now)]
    for use in over:
        if not (keep_last and (use is uses[-1] or use.label is not None)):
            _path(store, name, use.user).unlink(missing_ok=True)
    with suppress(OSError):
        (store / "uses" / name).rmdir()


@contextmanager
def renewed_use(artefact: Path, user: str, *, every_s: float = LEASE_S / 6) -> Iterator[None]:
    """Records that `user` uses the artefact while the block runs, and that it did afterwards.

    A record outlives a killed process by `LEASE_S`. Where the artefact is in no store, or the store
    is mounted read-only, nothing is recorded: whoever mounted it does that.

    Args:
        artefact: its folder.
        user: see `record_use`.
        every_s: how often the record is renewed.

    Raises:
        MissingFile: the artefact was removed before it could be recorded.
    """
    store, name = artefact.parent.parent, artefact.name
    if artefact.parent.name != "artefacts" or not _NAME.fullmatch(name):
        yield
        return
    try:
        record_use(store, name, user, time.time() + LEASE_S)
    except BuilderError:
        yield
        return
    if not artefact.is_dir():
        raise MissingFile(f"{artefact}: it was removed from the store")
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(every_s):
            with suppress(BuilderError):
                record_use(store, name, user, time.time() + LEASE_S)

    thread = threading.Thread(target=renew, name="llmjp-use", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(BuilderError):
            release_use(store, name, user)


def _path(store: Path, name: str, user: str) -> Path:
    if not _NAME.fullmatch(name):
        raise InvalidSpec(f"{name!r}: nothing in a store has such a name")
    if not 0 < len(user) <= _MAX_USER or not user.isprintable():
        raise InvalidSpec(f"user {user!r}: expected 1 to {_MAX_USER} printable characters")
    if len(file := f"{quote(user, safe='')}.json") > _MAX_FILE:
        raise InvalidSpec(f"user {user!r}: too long for the name of a file")
    return store / "uses" / name / file


def _read(path: Path) -> Use | None:
    """None if it vanished meanwhile."""
    try:
        use: Use = decode(Use, json.loads(path.read_bytes()), "Use")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, BuilderError):
        with os_errors(path):
            return Use(user=unquote(path.stem), at=path.stat().st_mtime)
    return use
