"""A source on this disk: a folder as it is, a repository under `<store>/sources/<digest>/`.

<store>/sources/<digest>/            the files and, written last, source.json; not touched again
<store>/sources/<digest>.partial/    being downloaded; the next run goes on with it
<store>/locks/source-<digest>        held meanwhile; the system drops it with its process
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmjp_builder.contracts.spec import Step, name_download, pretty_json
from llmjp_builder.progress import Reporter
from llmjp_builder.sources.download import bytes_missing, download
from llmjp_builder.sources.hub import Hub
from llmjp_builder.sources.licence import require_accepted
from llmjp_builder.sources.resolve import resolve_folder, resolve_repository
from llmjp_builder.sources.selection import CONFIG
from llmjp_builder.store.downloads import SOURCE_NAME, find_download, is_commit, read_download
from llmjp_builder.store.files import os_errors, require_free_space, sync_directory, write_durably
from llmjp_builder.store.locks import locked
from llmjp_builder.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmjp_builder.contracts.spec import FileRecord, Progress, Source
    from llmjp_builder.sources.patience import Patience
    from llmjp_builder.store.downloads import ResolvedSource


@dataclass(frozen=True, slots=True)
class FetchedSource:
    """A source whose files are here."""

    path: Path
    """The folder they are in."""
    resolved: ResolvedSource


def fetch(
    source: Source,
    *,
    store: Path,
    token: str | None = None,
    endpoint: str | None = None,
    accepted_licence: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    remember_hashes: bool = True,
    patience: Patience | None = None,
    accept: Callable[[Path], None] | None = None,
) -> FetchedSource:
    """The files of `source` on this disk, each with its SHA-256; a repository is downloaded once.

    A commit that is in the store already is found without asking the hub.

    Args:
        source: a folder, which is used where it is, or a repository.
        store: the store's folder, made if missing.
        token: for the hub; without it what huggingface_hub finds (HF_TOKEN, `hf auth login`).
        endpoint: of the hub; without it HF_ENDPOINT, or huggingface.co.
        accepted_licence: id of the licence that somebody accepts.
        on_progress: called on every change and a few times a second, never by two threads at once.
        remember_hashes: take the sums of a folder's unchanged files from the store's cache.
        patience: with the hub.
        accept: called before weights are downloaded, with a folder that has config.json; what it
            raises ends the fetch.

    Raises:
        LicenceNotAccepted: before anything is asked for.
        NotEnoughDisk: before anything large is downloaded.
        CorruptDownload: a file was not what the hub announced; it was removed.
        HubFailed: the hub was gone for too long; what has arrived is kept for the next run.
        BadArtefact: the downloaded source in the store was damaged since.
        BuilderError: as `resolve` says.
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
    reporter.begin(Step.FETCH, 0, f"asking for the files of {source.repository}")
    hub = Hub(endpoint=endpoint or "", token=token, **({"patience": patience} if patience else {}))
    resolved = resolve_repository(hub, source)
    return _downloaded(hub, resolved, store, reporter, accept=accept)


def _downloaded(
    hub: Hub,
    resolved: ResolvedSource,
    store: Path,
    reporter: Reporter,
    *,
    accept: Callable[[Path], None] | None,
) -> FetchedSource:
    """The source in the store, downloaded by us, by somebody else meanwhile, or earlier."""
    target = store / "sources" / resolved.digest
    if found := read_download(target):
        return FetchedSource(target, found)
    with os_errors(store):
        for folder in (target.parent, store / "locks"):
            folder.mkdir(parents=True, exist_ok=True)

    def on_wait() -> None:
        reporter.begin(Step.FETCH, 0, f"another process downloads {resolved.digest}; waiting")

    with locked(store / "locks" / name_download(resolved.digest), on_wait=on_wait):
        if found := read_download(target):
            return FetchedSource(target, found)
        work = target.with_name(f"{target.name}.partial")
        with os_errors(work):
            work.mkdir(exist_ok=True)
        _bring(hub, resolved, work, reporter, accept=accept)
        write_durably(work / SOURCE_NAME, pretty_json(resolved.to_json()).encode())
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
    here = total - bytes_missing(resolved.files, work)
    already = f", {here / 1e6:,.0f} MB are here already" if here else ""
    message = f"downloading {repository} at {commit[:12]}{already}"
    reporter.begin(Step.FETCH, total, message, already=here)
    require_free_space(work, total - here)

    def bring(files: Mapping[str, FileRecord]) -> None:
        download(hub, repository, commit, files=files, folder=work, on_bytes=reporter.add)

    if accept is not None:
        bring({CONFIG: resolved.files[CONFIG]})
        accept(work)
    bring(resolved.files)
    reporter.end()
