"""Downloads of a repository's files: several at once, resumed, every byte verified.

A file arrives as `<name>.partial` and is renamed when its SHA-256 is right and it was fsynced; the
next run resumes what a killed download leaves.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from llmjp_builder.contracts.errors import CorruptDownload
from llmjp_builder.sources.http import TransientFailure
from llmjp_builder.sources.retries import retry
from llmjp_builder.store.files import os_errors, require_free_space, sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    from llmjp_builder.contracts.spec import FileRecord
    from llmjp_builder.sources.http import HubResponse
    from llmjp_builder.sources.hub import Hub

CONNECTIONS = 4
"""Files in flight: one connection rarely fills a link, and a hub's limits count requests."""

_PARTIAL = ".partial"
_PIECE = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-")


class _DownloadStopped(Exception):
    """Another file failed, or the user interrupted: this one is left as it is."""


def count_missing_bytes(files: Mapping[str, FileRecord], folder: Path) -> int:
    """Count the bytes of `files` that have not arrived in `folder` yet."""
    missing = 0
    for name, record in files.items():
        with os_errors(folder):
            whole, partial = folder / name, folder / f"{name}{_PARTIAL}"
            if not whole.exists():
                arrived = partial.stat().st_size if partial.exists() else 0
                missing += record.size - min(arrived, record.size)
    return missing


def download_files(
    hub: Hub,
    repository: str,
    commit: str,
    *,
    files: Mapping[str, FileRecord],
    folder: Path,
    on_bytes: Callable[[int], None],
) -> None:
    """Download `files` of a repository into `folder`; durable on return.

    Args:
        hub: where they are.
        repository: `owner/name`.
        commit: a full commit id.
        files: size and SHA-256 by name.
        folder: exists; nobody else may write to it meanwhile.
        on_bytes: called with numbers of new bytes, from several threads; with a negative number
            when bytes had to be thrown away.

    Raises:
        NotEnoughDisk: before any request, or later if somebody else fills the disk.
        CorruptDownload: a file is not what was announced; it was removed.
        HubFailed: the hub is unreachable for too long; partial downloads are kept.
        BuilderError: as `hub_errors` says.
    """
    require_free_space(folder, count_missing_bytes(files, folder))
    stop = threading.Event()

    def run(name: str) -> None:
        if not (folder / name).exists() and not stop.is_set():
            _FileDownload(hub, repository, commit, name, files[name], folder, on_bytes, stop).run()

    with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="llmjp-download") as pool:
        # Small files first: what is refused at all is refused before gigabytes have arrived.
        names = sorted(files, key=lambda name: (files[name].size, name))
        futures = [pool.submit(run, name) for name in names]
        try:
            wait_for(futures, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
    errors = [
        error for future in futures if not future.cancelled() and (error := future.exception())
    ]
    for error in errors:
        if not isinstance(error, _DownloadStopped):
            raise error
    sync_directory(folder)


@dataclass(slots=True)
class _FileDownload:
    """The download of one file."""

    hub: Hub
    repository: str
    commit: str
    name: str
    record: FileRecord
    folder: Path
    on_bytes: Callable[[int], None]
    stop: threading.Event
    began_at: int = 0
    """Bytes that were there before; they never count as progress, even if downloaded again."""
    reported: int = 0

    def run(self) -> None:
        """Download what is missing, verify the whole, rename the file."""
        path = self.folder / f"{self.name}{_PARTIAL}"
        with os_errors(path, needed=self.record.size), _PartialFile(path) as partial:
            resumed = partial.size > 0
            self.began_at = min(partial.size, self.record.size)
            found = self._complete(partial)
            if found != self.record.sha256 and resumed:
                # A machine that lost power may have kept a length without its bytes.
                self._forget(partial)
                found = self._complete(partial)
            if found != self.record.sha256:
                self._forget(partial)
                path.unlink()
                raise CorruptDownload(
                    f"{self.repository}: {self.name} arrived damaged: expected sha256 "
                    f"{self.record.sha256}, found {found}; it was removed, try again"
                )
            partial.sync()
            path.rename(self.folder / self.name)

    def _complete(self, partial: _PartialFile) -> str:
        """Download until the file has its length; return its SHA-256."""
        if partial.size > self.record.size:
            self._forget(partial)
        if partial.size < self.record.size:
            retry(
                lambda: self._receive(partial),
                f"{self.repository}: {self.name}",
                retry_policy=self.hub.retry_policy,
                wait=self._wait,
                position=lambda: partial.size,
            )
        return partial.sha256

    def _receive(self, partial: _PartialFile) -> None:
        """Make one request, from the present length to the end or a lost connection."""
        with self.hub.open_file(self.repository, self.commit, self.name, partial.size) as reply:
            if partial.size and not _is_continuation(reply, partial.size):
                self._forget(partial)
                if reply.status == 206:
                    raise TransientFailure("the hub sends another part than was requested")
            for chunk in reply.chunks:
                if self.stop.is_set():
                    raise _DownloadStopped
                partial.append(chunk)
                self._report(partial)
                if partial.size > self.record.size:
                    break  # too long to be it: the digest will say so
        if partial.size < self.record.size:
            raise TransientFailure(
                f"the connection ended at byte {partial.size:,} of {self.record.size:,}"
            )

    def _wait(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise _DownloadStopped

    def _forget(self, partial: _PartialFile) -> None:
        partial.restart()
        self._report(partial)

    def _report(self, partial: _PartialFile) -> None:
        new = max(0, min(partial.size, self.record.size) - self.began_at)
        self.on_bytes(new - self.reported)
        self.reported = new


def _is_continuation(reply: HubResponse, offset: int) -> bool:
    """Return whether the response begins at `offset`; servers without ranges send all (200)."""
    begins = _CONTENT_RANGE.match(reply.headers.get("Content-Range", ""))
    return reply.status == 206 and begins is not None and int(begins[1]) == offset


class _PartialFile:
    """A growing file, and the SHA-256 of its contents."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        self._file = self._path.open("a+b")
        self._hash = hashlib.sha256()
        self.size = 0
        self._file.seek(0)
        while piece := self._file.read(_PIECE):
            self._hash.update(piece)
            self.size += len(piece)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def sha256(self) -> str:
        """SHA-256 of everything so far."""
        return self._hash.hexdigest()

    def append(self, chunk: bytes) -> None:
        """Append a chunk."""
        self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    def restart(self) -> None:
        """Discard everything."""
        self._file.truncate(0)
        self._hash = hashlib.sha256()
        self.size = 0

    def sync(self) -> None:
        """Wait until it is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
