"""The store: a folder of immutable artefacts, each under its key, complete when it has a manifest.

<store>/artefacts/<key>/    published by one rename of a folder that was written and fsynced before
<store>/work/<key>/         being built; removed by the next build that holds the key's lock
<store>/locks/<key>         held while the key is built; the system drops it with its process
<store>/cache/hashes.json   see `hashing`
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.disk import os_errors, sync_directory, write_durably
from llmjp_builder.errors import BadArtefact, MissingFile
from llmjp_builder.hashing import HashCache, hash_files
from llmjp_builder.spec import MANIFEST_NAME, Manifest, pretty_json
from llmjp_builder.workfolder import fresh_folder, locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Store:
    """A store at `root`; the folder is made when something is built."""

    root: Path

    def path_of(self, key: str) -> Path:
        """Where the artefact is, or would be."""
        return self.root / "artefacts" / key

    @property
    def hash_cache(self) -> HashCache:
        """As it is on the disk now."""
        return HashCache(self.root / "cache" / "hashes.json")

    def artefact_keys(self) -> list[str]:
        """Of everything published, complete or damaged."""
        folder = self.root / "artefacts"
        with os_errors(folder):
            return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    @contextmanager
    def building(self, key: str, on_wait: Callable[[], None]) -> Iterator[None]:
        """Holds the key's lock: nobody else builds it. `on_wait` is called if it was taken."""
        with os_errors(self.root):
            for name in ("artefacts", "work", "locks"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
        with locked(self.root / "locks" / key, on_wait=on_wait):
            self._remove_abandoned(key)
            yield

    @contextmanager
    def work_folder(self, key: str) -> Iterator[Path]:
        """An empty folder to build in; the lock must be held. Removed unless it was published."""
        with fresh_folder(self.root / "work" / key) as work:
            yield work

    def publish(self, work: Path, manifest: Manifest) -> Path:
        """Makes a work folder whose files are durable the artefact; the manifest is written last.

        A damaged artefact of the same key is replaced.
        """
        write_durably(work / MANIFEST_NAME, pretty_json(manifest.to_json()).encode())
        sync_directory(work)
        path = self.path_of(manifest.key)
        with os_errors(path):
            if path.exists():
                damaged = work.with_name(f"{manifest.key}.damaged")
                shutil.rmtree(damaged, ignore_errors=True)
                path.rename(damaged)
                shutil.rmtree(damaged, ignore_errors=True)
            work.rename(path)
        sync_directory(path.parent)
        return path

    def _remove_abandoned(self, own_key: str) -> None:
        """Work folders whose builder died: ours, whose lock we hold, and any whose lock is free."""
        with os_errors(self.root):
            left = list((self.root / "work").iterdir())
        for folder in left:
            key = folder.name.partition(".")[0]
            if key == own_key:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            with locked(self.root / "locks" / key, on_wait=None) as free:
                if free:
                    shutil.rmtree(folder, ignore_errors=True)


def check_artefact(
    path: Path, on_bytes: Callable[[int], None] = lambda _: None, *, hashes: bool = True
) -> Manifest:
    """The manifest of an artefact whose files are all there, and what it says of them.

    Args:
        path: the artefact's folder.
        on_bytes: called with numbers of bytes read, from several threads.
        hashes: False compares sizes only.

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
