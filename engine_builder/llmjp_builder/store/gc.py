"""What is in a store, and the removal of what nobody needs. Standard library only.

Something is removed only while nobody builds it or uses it: its locks are held alone, and no use
is on record (`leases`). It moves to `<store>/trash/` by one rename and is deleted there, so that
nothing half removed is taken for whole; a killed collection is completed by the next one.
"""

from __future__ import annotations

import math
import os
import stat
import uuid
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from llmjp_builder.contracts.spec import download_name
from llmjp_builder.store.files import os_errors, sync_directory
from llmjp_builder.store.leases import forget_uses, lock_of_use, uses_of
from llmjp_builder.store.locks import locked
from llmjp_builder.store.store import Store, remove

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

_DAY_S = 86_400.0


class What(StrEnum):
    """Kinds of things in a store that take room."""

    ARTEFACT = "artefact"
    SOURCE = "source"
    DOWNLOAD = "download"
    """A source on its way; the next build goes on with it."""
    WORK = "work"
    """An artefact that only needs to be published; the next build of its key does that."""
    CALIBRATION = "calibration"
    TIMING_CACHE = "timing-cache"
    LOG = "log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing, removed as a whole or not at all."""

    what: What
    name: str
    """Unique in the store: an artefact's key; else with a prefix that tells what it is."""
    path: Path
    size: int
    """In bytes."""
    last_use: float
    """Seconds since 1970; what is in use now is used now."""
    users: tuple[str, ...] = ()
    """Who uses it now, as far as that is on record."""
    locks: tuple[str, ...] = ()
    """Of those who make it, by the names of their files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What may go; without any limit only what nobody can have a use for."""

    keep_bytes: int | None = None
    """Remove what was not used for longest, until no more than this is left."""
    older_than_s: float | None = None
    """Remove whatever was not used for so long."""
    names: Collection[str] = frozenset()
    """Remove what has one of these names."""
    keep: Collection[str] = frozenset()
    """Names of what is in use, whatever the records say."""
    disregard: Collection[str] = frozenset()
    """Users whose records do not count; what a process holds is in use all the same."""

    def wants(self, item: Item, total: int, now: float) -> bool:
        """Whether `item` should go while `total` bytes are there."""
        old = self.older_than_s is not None and now - item.last_use > self.older_than_s
        named = item.name in self.names
        return named or old or (self.keep_bytes is not None and total > self.keep_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a collection did, or would do."""

    removed: tuple[Item, ...]
    in_use: tuple[Item, ...]
    """What the policy wanted, but somebody uses or builds."""
    bytes_left: int


def contents(root: Path, now: float) -> list[Item]:
    """Everything in the store that takes room, by kind and name."""
    items = [
        *_artefacts(root),
        *_sources(root),
        *_work(root),
        *_entries(root / "calibrations", What.CALIBRATION),
        *_entries(root / "timing-caches", What.TIMING_CACHE),
        *_entries(root / "logs", What.LOG),
    ]
    return [_with_uses(root, item, now) for item in items]


def collect(root: Path, policy: Policy, *, dry_run: bool = False, now: float) -> Collected:
    """Removes what `policy` wants and nobody uses, the least recently used first.

    What is of no use to anybody goes in any case: work of builds that died, half-removed things,
    locks that nobody holds, and records of uses that are over.

    Args:
        root: the store's folder.
        policy: what may go.
        dry_run: only say what would be done.
        now: the present.

    Raises:
        NotPermitted: the store cannot be written to.
    """
    with ExitStack() as stack:
        if not dry_run and root.is_dir():
            with os_errors(root):
                for name in ("locks", "trash"):
                    (root / name).mkdir(exist_ok=True)
            stack.enter_context(locked(root / "locks" / "gc", on_wait=lambda: None))
            Store(root).remove_abandoned()
            _empty_trash(root)
        found = sorted(contents(root, now), key=lambda item: item.last_use)
        total, removed, in_use = sum(item.size for item in found), list[Item](), list[Item]()
        for item in found:
            if not policy.wants(item, total, now):
                continue
            kept = item.name in policy.keep or not set(item.users) <= set(policy.disregard)
            if kept or not _remove(root, item, policy, dry_run=dry_run, now=now):
                in_use.append(item)
                continue
            removed.append(item)
            total -= item.size
        if not dry_run and root.is_dir():
            _tidy(root, {item.name for item in found} - {item.name for item in removed}, now)
    return Collected(removed=tuple(removed), in_use=tuple(in_use), bytes_left=total)


def _remove(root: Path, item: Item, policy: Policy, *, dry_run: bool, now: float) -> bool:
    """Whether it was (or would be) removed: nobody makes it, and nobody uses it."""
    trash = root / "trash" / f"{uuid.uuid4().hex}-{item.path.name}"
    with ExitStack() as stack:
        for lock in (*(root / "locks" / name for name in item.locks), lock_of_use(root, item.name)):
            if dry_run and not lock.exists():
                continue
            if not stack.enter_context(locked(lock, on_wait=None)):
                return False
        uses = uses_of(root, item.name)
        if any(use.is_current(now) and use.user not in policy.disregard for use in uses):
            return False
        if not item.path.exists():
            return False  # published, or renamed, since it was found
        if dry_run:
            return True
        with os_errors(item.path):
            item.path.rename(trash)
        sync_directory(item.path.parent)
        forget_uses(root, item.name, keep_last=False, now=math.inf)
    remove(trash)
    return True


def _artefacts(root: Path) -> Iterator[Item]:
    for path in _children(root / "artefacts"):
        size, newest = _measured(path)
        yield Item(
            what=What.ARTEFACT,
            name=path.name,
            path=path,
            size=size,
            last_use=newest,
            locks=(path.name,),
        )


def _sources(root: Path) -> Iterator[Item]:
    for path in _children(root / "sources"):
        size, newest = _measured(path)
        digest, _, partial = path.name.partition(".")
        yield Item(
            what=What.DOWNLOAD if partial else What.SOURCE,
            name=f"download-{digest}" if partial else download_name(digest),
            path=path,
            size=size,
            last_use=newest,
            locks=(download_name(digest),),
        )


def _work(root: Path) -> Iterator[Item]:
    store = Store(root)
    for path in _children(root / "work"):
        if path.is_dir() and store.is_finished(path):
            size, newest = _measured(path)
            yield Item(
                what=What.WORK,
                name=f"work-{path.name}",
                path=path,
                size=size,
                last_use=newest,
                locks=(path.name,),
            )


def _entries(folder: Path, what: What) -> Iterator[Item]:
    """One item per entry; a log goes by the lock of the build that writes it."""
    for path in _children(folder):
        size, newest = _measured(path)
        key = path.name.partition(".")[0]
        lock = {What.LOG: key, What.CALIBRATION: f"calibration-{key}"}.get(what)
        yield Item(
            what=what,
            name=f"{what}-{path.name}",
            path=path,
            size=size,
            last_use=newest,
            locks=() if lock is None else (lock,),
        )


def _with_uses(root: Path, item: Item, now: float) -> Item:
    uses = uses_of(root, item.name)
    users = tuple(sorted(use.user for use in uses if use.is_current(now)))
    last = now if users else max([item.last_use, *(use.at for use in uses)])
    return replace(item, last_use=last, users=users)


def _children(folder: Path) -> list[Path]:
    """Entries by name, without what is hidden."""
    with os_errors(folder):
        if not folder.is_dir():
            return []
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _measured(path: Path) -> tuple[int, float]:
    """Bytes of all files at or below `path`, and the newest time of writing.

    What vanishes meanwhile, because a build goes on, counts nothing.
    """
    below = (Path(folder) / name for folder, _, files in os.walk(path) for name in files)
    infos = [info for place in (path, *below) if (info := _info(place)) is not None]
    sizes = (info.st_size for info in infos if not stat.S_ISDIR(info.st_mode))
    return sum(sizes), max((info.st_mtime for info in infos), default=0.0)


def _info(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _empty_trash(root: Path) -> None:
    for path in _children(root / "trash"):
        remove(path)


def _tidy(root: Path, names: Iterable[str], now: float) -> None:
    """Small things: uses that are over, locks that nobody holds, files of writers that died."""
    kept = set(names)
    Store(root).remove_abandoned()
    for folder in _children(root / "uses"):
        with locked(lock_of_use(root, folder.name), on_wait=None) as alone:
            if alone:
                forget_uses(root, folder.name, keep_last=folder.name in kept, now=now)
    for lock in _children(root / "locks"):
        if lock.name != "gc":
            with locked(lock, on_wait=None) as alone:
                if alone:
                    lock.unlink(missing_ok=True)
    for partial in (*root.glob(".*.partial"), *root.glob("*/.*.partial"), *root.glob("uses/*/.*")):
        with suppress(OSError):
            if now - partial.stat().st_mtime > _DAY_S:
                partial.unlink()
