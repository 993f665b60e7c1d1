"""The store: immutable artefacts by key, each complete once it has a manifest.

<store>/artefacts/<key>/    published by one rename of a folder that was written and fsynced before
<store>/work/<key>/         being built; removed by the next build, unless it is finished:
<store>/work/<key>.finished names and sizes of its files, written when all are durable; the next
                            build of the key resumes there
<store>/locks/<key>         held while the key is built; the system releases it with the process
<store>/locks/<key>.use     shared by the users of the artefact (`leases`)
<store>/cache/hashes.json   see `hashing`
"""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import BadArtefact, MissingFile, NotEnoughDisk
from llmjp_builder.contracts.spec import MANIFEST_NAME, Manifest, to_pretty_json
from llmjp_builder.store.files import os_errors, sync_directory, write_durably
from llmjp_builder.store.hashing import HashCache, hash_files
from llmjp_builder.store.leases import get_lease_lock
from llmjp_builder.store.locks import locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Store:
    """A store at `root`; the first build creates the folder."""

    root: Path

    def get_path(self, key: str) -> Path:
        """Return where the artefact is, or would be."""
        return self.root / "artefacts" / key

    @property
    def hash_cache(self) -> HashCache:
        """The cache as it is on the disk now."""
        return HashCache(self.root / "cache" / "hashes.json")

    def list_keys(self) -> list[str]:
        """List the keys of everything published, intact or damaged."""
        folder = self.root / "artefacts"
        with os_errors(folder):
            return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    @contextmanager
    def building(self, key: str, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold the key's lock, so that nobody else builds it; `on_wait` precedes a wait."""
        with os_errors(self.root):
            for name in ("artefacts", "work", "locks"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
        with locked(self.root / "locks" / key, on_wait=on_wait):
            self.remove_abandoned(key)
            yield

    @contextmanager
    def in_use(self, name: str) -> Iterator[None]:
        """Keep the item of that name from being collected, whether it exists yet or not."""
        with os_errors(self.root):
            (self.root / "locks").mkdir(parents=True, exist_ok=True)
        lock = get_lease_lock(self.root, name)
        with locked(lock, on_wait=lambda: None, shared=True):
            yield

    @contextmanager
    def work_folder(self, key: str) -> Iterator[Path]:
        """Yield a folder to build in; the key's lock must be held.

        It is empty, or what an interrupted build had finished (`is_finished`). On failure it is
        removed, unless it is finished and only a full disk or an interrupt kept it from being
        published.
        """
        work = self.root / "work" / key
        if not self.is_finished(work):
            self._remove_work(work)
            with os_errors(work):
                work.mkdir(parents=True)
        remove_path(work / MANIFEST_NAME)
        try:
            yield work
        except (NotEnoughDisk, KeyboardInterrupt):
            if not self.is_finished(work):
                self._remove_work(work)
            raise
        except BaseException:
            self._remove_work(work)
            raise
        self._remove_work(work)

    def finish(self, work: Path) -> None:
        """Mark the work folder as finished: every file but the manifest is durable and final."""
        sizes = to_pretty_json(_measure_files(work)).encode()
        write_durably(partial := work.with_name(f"{work.name}.finishing"), sizes)
        with os_errors(work):
            partial.rename(_get_mark(work))
        sync_directory(work.parent)

    def is_finished(self, work: Path) -> bool:
        """Return whether the work folder was marked as finished and has the same files still."""
        try:
            marked = json.loads(_get_mark(work).read_bytes())
            return work.is_dir() and bool(marked == _measure_files(work))
        except (OSError, ValueError):
            return False

    def publish(self, work: Path, manifest: Manifest) -> Path:
        """Publish a finished work folder as the artefact; the manifest is written last.

        A damaged artefact of the same key is replaced.
        """
        write_durably(work / MANIFEST_NAME, to_pretty_json(manifest.to_json()).encode())
        sync_directory(work)
        path = self.get_path(manifest.key)
        with os_errors(path):
            if path.exists():
                damaged = work.with_name(f"{manifest.key}.damaged")
                shutil.rmtree(damaged, ignore_errors=True)
                path.rename(damaged)
                shutil.rmtree(damaged, ignore_errors=True)
            work.rename(path)
        sync_directory(path.parent)
        return path

    def remove_abandoned(self, own_key: str | None = None) -> None:
        """Remove work whose builder died: under `own_key`, whose lock we hold, or a free lock.

        Finished work stays for the next build of its key, or until it is collected.
        """
        with os_errors(self.root):
            folder = self.root / "work"
            keys = {path.name.partition(".")[0] for path in folder.glob("*")}
        for key in keys:
            if key == own_key:
                self._remove_unfinished(folder / key)
                continue
            with locked(self.root / "locks" / key, on_wait=None) as free:
                if free:
                    self._remove_unfinished(folder / key)

    def _remove_unfinished(self, work: Path) -> None:
        keep = {work, _get_mark(work)} if self.is_finished(work) else set()
        for path in work.parent.glob(f"{work.name}*"):
            if path not in keep:
                remove_path(path)

    def _remove_work(self, work: Path) -> None:
        """Remove the mark first: nothing half removed may count as finished."""
        remove_path(_get_mark(work))
        remove_path(work)


def remove_path(path: Path) -> None:
    """Remove a file or a folder as far as possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _get_mark(work: Path) -> Path:
    return work.with_name(f"{work.name}.finished")


def _measure_files(work: Path) -> dict[str, int]:
    """Measure every file but the manifest, which is written when all else is finished."""
    found = {
        path.relative_to(work).as_posix(): path.stat().st_size
        for path in work.rglob("*")
        if path.is_file()
    }
    return {name: size for name, size in found.items() if name != MANIFEST_NAME}


def check_artefact(
    path: Path, on_bytes: Callable[[int], None] = lambda _: None, *, hashes: bool = True
) -> Manifest:
    """Return the manifest of an artefact after comparing its files with it.

    Args:
        path: the artefact's folder.
        on_bytes: called with numbers of bytes read, from several threads.
        hashes: compare SHA-256 as well as sizes.

    Raises:
        BadArtefact: no manifest, or a file is missing, added, or of other size or contents.
    """
    manifest = Manifest.load(path)
    present = {
        file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir()
    } - {MANIFEST_NAME}
    if odd := sorted(present ^ manifest.files.keys()):
        fault = "is missing" if odd[0] in manifest.files else "does not belong to it"
        raise BadArtefact(f"{path}: {odd[0]} {fault}")
    for name, record in manifest.files.items():
        with os_errors(path / name):
            size = (path / name).stat().st_size
        if size != record.size:
            raise BadArtefact(f"{path / name}: {size:,} bytes, the manifest says {record.size:,}")
    if hashes:
        try:
            found = hash_files(path, manifest.files, on_bytes)
        except MissingFile as exc:
            raise BadArtefact(str(exc)) from exc
        if damaged := sorted(name for name in found if found[name] != manifest.files[name]):
            raise BadArtefact(f"{path / damaged[0]}: its contents are not what the manifest says")
    return manifest
