"""SHA-256 of large files: two at a time, with progress, and remembered between builds.

A store's memory is `<store>/cache/hashes.json`. An entry counts only while size, modification time,
change time and inode of the file are what they were; a file modified within the last seconds is not
remembered at all, since another write could leave the same times behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmjp_builder.contracts.errors import BuilderError, SourceChanged
from llmjp_builder.contracts.spec import FileRecord
from llmjp_builder.store.files import os_errors, replace_atomically
from llmjp_builder.threads import raise_if_stopped, run_in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_PIECE = 4 << 20
_SETTLED_NS = 3_000_000_000
"""Coarser than the time stamps of any file system in use."""
_MAX_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A file's metadata: equal fingerprints mean unchanged contents."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def read(cls, path: Path) -> Fingerprint:
        """Read the present one of a file; symbolic links are followed."""
        with os_errors(path):
            info = path.stat()
        return cls(info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)

    @property
    def settled(self) -> bool:
        """Whether the last change is so long ago that another would show in the times."""
        return time.time_ns() - max(self.mtime_ns, self.ctime_ns) > _SETTLED_NS

    @property
    def as_list(self) -> list[int]:
        """The form in the cache file."""
        return [self.size, self.mtime_ns, self.ctime_ns, self.inode]


class HashCache:
    """SHA-256 by real path. A cache that cannot be read is empty."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries = _load(path)

    def find(self, path: Path, fingerprint: Fingerprint) -> str | None:
        """Return the remembered SHA-256 if the file is unchanged."""
        match self._entries.get(os.path.realpath(path)):
            case {"file": found, "sha256": str(sha256)} if found == fingerprint.as_list:
                return sha256
            case _:
                return None

    def add(self, path: Path, fingerprint: Fingerprint, sha256: str) -> None:
        """Remember a SHA-256 if the file has settled."""
        if fingerprint.settled:
            entry = {"file": fingerprint.as_list, "sha256": sha256}
            self._entries.pop(os.path.realpath(path), None)
            self._entries[os.path.realpath(path)] = entry

    def save(self) -> None:
        """Write the cache; entries that another build saved meanwhile are kept."""
        merged = {**_load(self._path), **self._entries}
        newest = dict(list(merged.items())[-_MAX_ENTRIES:])
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_atomically(self._path, json.dumps(newest, indent=1).encode())
        except (BuilderError, OSError):
            return  # the cache only saves time; the build continues without


def _load(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def compute_sha256(path: Path, on_bytes: Callable[[int], None]) -> str:
    """Return the SHA-256 of a file in hexadecimal, read in pieces of a few megabytes."""
    digest, buffer = hashlib.sha256(), bytearray(_PIECE)
    view = memoryview(buffer)
    with os_errors(path), path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            raise_if_stopped()
            digest.update(view[:count])
            on_bytes(count)
    return digest.hexdigest()


def hash_files(
    folder: Path,
    names: Iterable[str],
    on_bytes: Callable[[int], None],
    cache: HashCache | None = None,
) -> dict[str, FileRecord]:
    """Return size and SHA-256 of the files `names` in `folder`, by name.

    Args:
        folder: of the files.
        names: relative to it.
        on_bytes: called with numbers of bytes done, from several threads.
        cache: consulted and filled; None reads every byte.

    Raises:
        SourceChanged: a file was written to while it was read.
        MissingFile: a file is not there.
    """

    def hash_file(name: str) -> FileRecord:
        path = folder / name
        before = Fingerprint.read(path)
        known = cache.find(path, before) if cache is not None else None
        if known is not None:
            on_bytes(before.size)
            return FileRecord(size=before.size, sha256=known)
        sha256 = compute_sha256(path, on_bytes)
        if Fingerprint.read(path) != before:
            raise SourceChanged(f"{path}: was modified while it was read; try again")
        if cache is not None:
            cache.add(path, before, sha256)
        return FileRecord(size=before.size, sha256=sha256)

    listed = list(names)
    return dict(zip(listed, run_in_threads(hash_file, listed), strict=True))
