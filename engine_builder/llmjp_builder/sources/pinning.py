"""Pinning of sources: which commit, which files, with size and SHA-256.

No weights are read from a hub.

A folder and a repository that hold the same files have the same digest, and so give the same key.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import InvalidSpec, MissingFile, SourceChanged
from llmjp_builder.contracts.spec import FileRecord, Source, Step
from llmjp_builder.progress import Reporter
from llmjp_builder.sources.hub import Hub
from llmjp_builder.sources.licence import require_accepted
from llmjp_builder.sources.selection import INDEX, select_files
from llmjp_builder.store.downloads import ResolvedSource, compute_content_digest
from llmjp_builder.store.files import os_errors
from llmjp_builder.store.hashing import hash_files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmjp_builder.contracts.spec import Progress
    from llmjp_builder.store.hashing import HashCache

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True)
class SourcePin:
    """A source that was just resolved."""

    resolved: ResolvedSource
    read_file: Callable[[str], bytes]
    """Return one of its small files by name, as hashed in `resolved`.

    A second request is needed for a file whose SHA-256 the hub told, such as tokenizer.json.
    """


def parse_source(text: str, revision: str | None = None) -> Source:
    """Parse a source from the command line: an existing folder, else a repository.

    Raises:
        MissingFile: neither a folder nor `owner/name`.
        InvalidSpec: a revision of a folder.
    """
    folder = Path(text).expanduser()
    if folder.is_dir():
        return Source(path=str(folder), revision=revision)
    if _REPOSITORY.fullmatch(text):
        return Source(repository=text, revision=revision)
    raise MissingFile(f"{text}: no such folder, and not a repository, which is OWNER/NAME")


def resolve_source(
    source: Source,
    *,
    endpoint: str | None = None,
    token: str | None = None,
    accepted_licence: str | None = None,
    hash_cache: HashCache | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> ResolvedSource:
    """Resolve what `source` is now.

    Of a repository, only the listing is requested, and the small files whose SHA-256 the hub does
    not tell (config and tokenizer); of a folder, every file is hashed.

    Args:
        source: a folder or a repository.
        endpoint: of the hub; without it HF_ENDPOINT, or huggingface.co.
        token: for the hub; without it what huggingface_hub finds (HF_TOKEN, `hf auth login`).
        accepted_licence: id of the licence that somebody accepts.
        hash_cache: of files in folders; saved when done.
        on_progress: called while files are hashed.

    Raises:
        LicenceNotAccepted: before any request.
        MissingRepository, GatedRepository, BadToken, HubFailed: as the hub responds.
        CorruptDownload: a small file arrived damaged.
        MissingFile, BadConfig, BadTensors, UnsupportedRequest: it holds no checkpoint.
        SourceChanged: a file of the folder was modified while it was hashed.
    """
    return pin_source(
        source,
        endpoint=endpoint,
        token=token,
        accepted_licence=accepted_licence,
        hash_cache=hash_cache,
        on_progress=on_progress,
    ).resolved


def pin_source(
    source: Source,
    *,
    endpoint: str | None = None,
    token: str | None = None,
    accepted_licence: str | None = None,
    hash_cache: HashCache | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> SourcePin:
    """Resolve `source` and give access to its small files; see `resolve_source`."""
    if source.path is not None:
        folder = Path(source.path)
        found = resolve_folder(folder, hash_cache, Reporter(on_progress))
        return SourcePin(found, lambda name: _read_file(folder, found, name))
    assert source.repository is not None
    require_accepted(source.repository, accepted_licence)
    return _pin_repository(Hub(endpoint=endpoint or "", token=token), source)


def _read_file(folder: Path, found: ResolvedSource, name: str) -> bytes:
    path = folder / name
    with os_errors(path):
        data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != found.files[name].sha256:
        raise SourceChanged(f"{path}: was modified after it was hashed; try again")
    return data


def resolve_folder(
    folder: Path, hash_cache: HashCache | None, reporter: Reporter
) -> ResolvedSource:
    """Resolve a folder by hashing its files; see `resolve_source`."""
    if not folder.is_dir():
        raise MissingFile(f"{folder}: no such folder; expected a Hugging Face checkpoint there")
    with os_errors(folder):
        present = {path.name for path in folder.iterdir() if path.is_file()}

    def read_index() -> bytes:
        with os_errors(folder / INDEX):
            return (folder / INDEX).read_bytes()

    names = select_files(present, read_index, str(folder))
    with os_errors(folder):
        total = sum((folder / name).stat().st_size for name in names)
    reporter.begin(Step.FETCH, total, f"hashing {folder}")
    files = hash_files(folder, names, reporter.add, hash_cache)
    if hash_cache is not None:
        hash_cache.save()
    reporter.end()
    return _make_resolved(Source(path=str(folder)), files)


def resolve_repository(hub: Hub, source: Source) -> ResolvedSource:
    """Resolve a repository at its present commit; the caller has checked the licence."""
    return _pin_repository(hub, source).resolved


def _pin_repository(hub: Hub, source: Source) -> SourcePin:
    repository = source.repository
    if repository is None or not _REPOSITORY.fullmatch(repository):
        raise InvalidSpec(f"source.repository: expected OWNER/NAME, found {repository!r}")
    listing = hub.list_files(repository, source.revision)
    where = f"{repository} at {listing.commit[:12]}"
    kept: dict[str, bytes] = {}

    def read(name: str) -> bytes:
        if name not in kept:
            kept[name] = hub.read_file(listing, name)
        return kept[name]

    def record(name: str) -> FileRecord:
        file = listing[name]
        if file.sha256 is not None:
            return FileRecord(size=file.size, sha256=file.sha256)
        contents = read(name)
        return FileRecord(size=len(contents), sha256=hashlib.sha256(contents).hexdigest())

    names = select_files(listing.names, lambda: read(INDEX), where)
    resolved = _make_resolved(
        Source(repository=repository, revision=listing.commit),
        {name: record(name) for name in names},
    )
    return SourcePin(resolved, read)


def _make_resolved(source: Source, files: Mapping[str, FileRecord]) -> ResolvedSource:
    return ResolvedSource(source=source, digest=compute_content_digest(files), files=files)
