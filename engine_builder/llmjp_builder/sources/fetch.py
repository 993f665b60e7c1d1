"""Fetching of sources: a folder is used in place, a repository goes to `<store>/sources/<digest>/`.

<store>/sources/<digest>/            the files and, written last, source.json; not touched again
<store>/sources/<digest>.partial/    being downloaded; the next run resumes it
<store>/locks/source-<digest>        held meanwhile; the system releases it with the process
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmjp_builder.contracts.spec import Step, name_download, to_pretty_json
from llmjp_builder.progress import Reporter
from llmjp_builder.sources.download import count_missing_bytes, download_files
from llmjp_builder.sources.hub import Hub
from llmjp_builder.sources.licence import require_accepted
from llmjp_builder.sources.pinning import resolve_folder, resolve_repository
from llmjp_builder.sources.selection import CONFIG
from llmjp_builder.store.downloads import SOURCE_NAME, find_download, is_commit, read_download
from llmjp_builder.store.files import os_errors, require_free_space, sync_directory, write_durably
from llmjp_builder.store.locks import locked
from llmjp_builder.store.store import Store
from llmjp_builder.tokenizer import OPTIONAL, REQUIRED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmjp_builder.contracts.spec import FileRecord, Progress, Source
    from llmjp_builder.sources.retries import HubRetryPolicy
    from llmjp_builder.store.downloads import ResolvedSource


@dataclass(frozen=True, slots=True)
class FetchedSource:
    """A source whose files are on this disk."""

    path: Path
    """The folder they are in."""
    resolved: ResolvedSource


def fetch_source(
    source: Source,
    *,
    store: Path,
    token: str | None = None,
    endpoint: str | None = None,
    accepted_licence: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    remember_hashes: bool = True,
    retry_policy: HubRetryPolicy | None = None,
    accept: Callable[[Path], None] | None = None,
) -> FetchedSource:
    """Fetch the files of `source`, each with its SHA-256; a repository is downloaded once.

    A commit that is in the store already needs no request.

    Args:
        source: a folder, which is used where it is, or a repository.
        store: the store's folder, created if missing.
        token: for the hub; without it what huggingface_hub finds (HF_TOKEN, `hf auth login`).
        endpoint: of the hub; without it HF_ENDPOINT, or huggingface.co.
        accepted_licence: id of the licence that somebody accepts.
        on_progress: called on every change and a few times a second, never by two threads at once.
        remember_hashes: take SHA-256 of a folder's unchanged files from the store's cache.
        retry_policy: for requests to the hub.
        accept: called before weights are downloaded, with a folder that has config.json and the
            tokenizer's files; its errors end the fetch.

    Raises:
        LicenceNotAccepted: before any request.
        NotEnoughDisk: before anything large is downloaded.
        CorruptDownload: a file was not what the hub announced; it was removed.
        HubFailed: the hub was unreachable for too long; partial downloads are kept.
        BadArtefact: the downloaded source in the store is damaged.
        BuilderError: as `pinning.resolve_source` says.
    """
    reporter = Reporter(on_progress)
    if source.path is not None:
        cache = Store(store).hash_cache if remember_hashes else None
        resolved = resolve_folder(Path(source.path), cache, reporter)
        return FetchedSource(Path(source.path), resolved)
    assert source.repository is not None
    require_accepted(source.repository, accepted_licence)
    folder = store / "sources"
    if is_commit(source.revision) and (present := find_download(folder, source)):
        return FetchedSource(*present)
    reporter.begin(Step.FETCH, 0, f"listing the files of {source.repository}")
    hub = Hub(
        endpoint=endpoint or "",
        token=token,
        **({"retry_policy": retry_policy} if retry_policy else {}),
    )
    resolved = resolve_repository(hub, source)
    return _download(hub, resolved, store, reporter, accept=accept)


def _download(
    hub: Hub,
    resolved: ResolvedSource,
    store: Path,
    reporter: Reporter,
    *,
    accept: Callable[[Path], None] | None,
) -> FetchedSource:
    """Return the source in the store, downloaded by us, by another process, or earlier."""
    target = store / "sources" / resolved.digest
    if found := read_download(target):
        return FetchedSource(target, found)
    with os_errors(store):
        for folder in (target.parent, store / "locks"):
            folder.mkdir(parents=True, exist_ok=True)

    def on_wait() -> None:
        reporter.begin(Step.FETCH, 0, f"another process is downloading {resolved.digest}; waiting")

    with locked(store / "locks" / name_download(resolved.digest), on_wait=on_wait):
        if found := read_download(target):
            return FetchedSource(target, found)
        work = target.with_name(f"{target.name}.partial")
        with os_errors(work):
            work.mkdir(exist_ok=True)
        _bring(hub, resolved, work, reporter, accept=accept)
        write_durably(work / SOURCE_NAME, to_pretty_json(resolved.to_json()).encode())
        sync_directory(work)
        with os_errors(target):
            work.rename(target)
        sync_directory(target.parent)
    return FetchedSource(target, resolved)


def _bring(
    hub: Hub,
    resolved: ResolvedSource,
    work: Path,
    reporter: Reporter,
    *,
    accept: Callable[[Path], None] | None,
) -> None:
    repository, commit = resolved.source.repository, resolved.source.revision
    assert repository is not None
    assert commit is not None
    total = sum(record.size for record in resolved.files.values())
    here = total - count_missing_bytes(resolved.files, work)
    already = f", {here / 1e6:,.0f} MB are there already" if here else ""
    message = f"downloading {repository} at {commit[:12]}{already}"
    reporter.begin(Step.FETCH, total, message, already=here)
    require_free_space(work, total - here)

    def bring(files: Mapping[str, FileRecord]) -> None:
        download_files(hub, repository, commit, files=files, folder=work, on_bytes=reporter.add)

    if accept is not None:
        small = {CONFIG, *REQUIRED, *OPTIONAL}
        bring({name: record for name, record in resolved.files.items() if name in small})
        accept(work)
    bring(resolved.files)
    reporter.end()
