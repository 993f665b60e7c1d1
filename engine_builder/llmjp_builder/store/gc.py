"""Garbage collection of a store. Standard library only.

An item is removed only while nobody builds or uses it: its locks are held exclusively, and it has
no lease (`leases`). It moves to `<store>/trash/` by one rename and is deleted there, so that
nothing half removed looks complete; the next collection finishes one that was killed.
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

from llmjp_builder.contracts.spec import name_download
from llmjp_builder.store.files import os_errors, sync_directory
from llmjp_builder.store.leases import get_lease_lock, read_leases, remove_ended_leases
from llmjp_builder.store.locks import locked
from llmjp_builder.store.store import Store, remove_path

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

_DAY_S = 86_400.0


class ItemKind(StrEnum):
    """Kinds of items in a store that take up space."""

    ARTEFACT = "artefact"
    SOURCE = "source"
    DOWNLOAD = "download"
    """An incomplete source; the next build resumes the download."""
    WORK = "work"
    """A finished artefact that was not published; the next build of its key publishes it."""
    CALIBRATION = "calibration"
    TIMING_CACHE = "timing-cache"
    LOG = "log"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreItem:
    """One entry of a store, removed as a whole or not at all."""

    kind: ItemKind
    name: str
    """Unique in the store: an artefact's key, or a name with its kind as prefix."""
    path: Path
    size: int
    """In bytes."""
    last_use: float
    """Seconds since 1970; now, if it is in use."""
    users: tuple[str, ...] = ()
    """Holders of current leases."""
    locks: tuple[str, ...] = ()
    """File names of the locks that whoever builds it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionPolicy:
    """Which items to remove; without any limit only leftovers that nobody can use."""

    keep_bytes: int | None = None
    """Remove the least recently used items until no more than this is left."""
    older_than_s: float | None = None
    """Remove items that were not used for this long."""
    names: Collection[str] = frozenset()
    """Remove the items of these names."""
    keep: Collection[str] = frozenset()
    """Names of items that stay, whatever their leases say."""
    disregard: Collection[str] = frozenset()
    """Users whose leases are ignored; locks that a process holds still count."""

    def selects(self, item: StoreItem, total: int, now: float) -> bool:
        """Return whether to remove `item` while the store holds `total` bytes."""
        old = self.older_than_s is not None and now - item.last_use > self.older_than_s
        named = item.name in self.names
        return named or old or (self.keep_bytes is not None and total > self.keep_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionResult:
    """Outcome of a collection, or of a dry run."""

    removed: tuple[StoreItem, ...]
    in_use: tuple[StoreItem, ...]
    """Selected by the policy, but in use or being built."""
    bytes_left: int


def list_items(root: Path, now: float) -> list[StoreItem]:
    """List everything in the store that takes up space, by kind and name."""
    items = [
        *_list_artefacts(root),
        *_list_sources(root),
        *_list_work(root),
        *_list_entries(root / "calibrations", ItemKind.CALIBRATION),
        *_list_entries(root / "timing-caches", ItemKind.TIMING_CACHE),
        *_list_entries(root / "logs", ItemKind.LOG),
    ]
    return [_add_leases(root, item, now) for item in items]


def collect_garbage(
    root: Path, policy: CollectionPolicy, *, dry_run: bool = False, now: float
) -> CollectionResult:
    """Remove what `policy` selects and nobody uses, the least recently used first.

    Leftovers are removed in any case: work of builds that died, trash, locks that nobody holds, and
    ended leases.

    Args:
        root: the store's folder.
        policy: which items to remove.
        dry_run: only report what would be removed.
        now: the present.

    Raises:
        AccessDenied: the store cannot be written to.
    """
    with ExitStack() as stack:
        if not dry_run and root.is_dir():
            with os_errors(root):
                for name in ("locks", "trash"):
                    (root / name).mkdir(exist_ok=True)
            stack.enter_context(locked(root / "locks" / "gc", on_wait=lambda: None))
            Store(root).remove_abandoned()
            _empty_trash(root)
        found = sorted(list_items(root, now), key=lambda item: item.last_use)
        total, removed, in_use = (
            sum(item.size for item in found),
            list[StoreItem](),
            list[StoreItem](),
        )
        for item in found:
            if not policy.selects(item, total, now):
                continue
            kept = item.name in policy.keep or not set(item.users) <= set(policy.disregard)
            if kept or not _remove_item(root, item, policy, dry_run=dry_run, now=now):
                in_use.append(item)
                continue
            removed.append(item)
            total -= item.size
        if not dry_run and root.is_dir():
            _tidy(root, {item.name for item in found} - {item.name for item in removed}, now)
    return CollectionResult(removed=tuple(removed), in_use=tuple(in_use), bytes_left=total)


def _remove_item(
    root: Path, item: StoreItem, policy: CollectionPolicy, *, dry_run: bool, now: float
) -> bool:
    """Remove the item unless somebody builds or uses it; return whether it was (or would be)."""
    trash = root / "trash" / f"{uuid.uuid4().hex}-{item.path.name}"
    with ExitStack() as stack:
        for lock in (
            *(root / "locks" / name for name in item.locks),
            get_lease_lock(root, item.name),
        ):
            if dry_run and not lock.exists():
                continue
            if not stack.enter_context(locked(lock, on_wait=None)):
                return False
        leases = read_leases(root, item.name)
        if any(held.is_current(now) and held.user not in policy.disregard for held in leases):
            return False
        if not item.path.exists():
            return False  # published, or renamed, since it was found
        if dry_run:
            return True
        with os_errors(item.path):
            item.path.rename(trash)
        sync_directory(item.path.parent)
        remove_ended_leases(root, item.name, keep_last=False, now=math.inf)
    remove_path(trash)
    return True


def _list_artefacts(root: Path) -> Iterator[StoreItem]:
    for path in _list_children(root / "artefacts"):
        size, newest = _measure(path)
        yield StoreItem(
            kind=ItemKind.ARTEFACT,
            name=path.name,
            path=path,
            size=size,
            last_use=newest,
            locks=(path.name,),
        )


def _list_sources(root: Path) -> Iterator[StoreItem]:
    for path in _list_children(root / "sources"):
        size, newest = _measure(path)
        digest, _, partial = path.name.partition(".")
        yield StoreItem(
            kind=ItemKind.DOWNLOAD if partial else ItemKind.SOURCE,
            name=f"download-{digest}" if partial else name_download(digest),
            path=path,
            size=size,
            last_use=newest,
            locks=(name_download(digest),),
        )


def _list_work(root: Path) -> Iterator[StoreItem]:
    store = Store(root)
    for path in _list_children(root / "work"):
        if path.is_dir() and store.is_finished(path):
            size, newest = _measure(path)
            yield StoreItem(
                kind=ItemKind.WORK,
                name=f"work-{path.name}",
                path=path,
                size=size,
                last_use=newest,
                locks=(path.name,),
            )


def _list_entries(folder: Path, kind: ItemKind) -> Iterator[StoreItem]:
    """Yield one item per entry; a log is protected by the lock of the build that writes it."""
    for path in _list_children(folder):
        size, newest = _measure(path)
        key = path.name.partition(".")[0]
        lock = {ItemKind.LOG: key, ItemKind.CALIBRATION: f"calibration-{key}"}.get(kind)
        yield StoreItem(
            kind=kind,
            name=f"{kind}-{path.name}",
            path=path,
            size=size,
            last_use=newest,
            locks=() if lock is None else (lock,),
        )


def _add_leases(root: Path, item: StoreItem, now: float) -> StoreItem:
    leases = read_leases(root, item.name)
    users = tuple(sorted(lease.user for lease in leases if lease.is_current(now)))
    last = now if users else max([item.last_use, *(lease.at for lease in leases)])
    return replace(item, last_use=last, users=users)


def _list_children(folder: Path) -> list[Path]:
    """Return the entries by name, without hidden ones."""
    with os_errors(folder):
        if not folder.is_dir():
            return []
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _measure(path: Path) -> tuple[int, float]:
    """Return the bytes of all files at or below `path`, and the newest modification time.

    Files that vanish meanwhile, because a build is running, count nothing.
    """
    below = (Path(folder) / name for folder, _, files in os.walk(path) for name in files)
    infos = [info for place in (path, *below) if (info := _stat(place)) is not None]
    sizes = (info.st_size for info in infos if not stat.S_ISDIR(info.st_mode))
    return sum(sizes), max((info.st_mtime for info in infos), default=0.0)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _empty_trash(root: Path) -> None:
    for path in _list_children(root / "trash"):
        remove_path(path)


def _tidy(root: Path, names: Iterable[str], now: float) -> None:
    """Remove ended leases, locks that nobody holds, and partial files of writers that died."""
    kept = set(names)
    Store(root).remove_abandoned()
    for folder in _list_children(root / "uses"):
        with locked(get_lease_lock(root, folder.name), on_wait=None) as alone:
            if alone:
                remove_ended_leases(root, folder.name, keep_last=folder.name in kept, now=now)
    for lock in _list_children(root / "locks"):
        if lock.name != "gc":
            with locked(lock, on_wait=None) as alone:
                if alone:
                    lock.unlink(missing_ok=True)
    for partial in (*root.glob(".*.partial"), *root.glob("*/.*.partial"), *root.glob("uses/*/.*")):
        with suppress(OSError):
            if now - partial.stat().st_mtime > _DAY_S:
                partial.unlink()
