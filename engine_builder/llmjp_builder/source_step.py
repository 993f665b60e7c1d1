"""First step of a build: fetch and hash the source, and check that it can be converted.

Everything is refused as early as possible: options before any I/O, a model's shape before its
weights are downloaded, a folder's headers before a byte is hashed.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmjp_builder.contracts.errors import BuilderError, InvalidSpec, SourceChanged
from llmjp_builder.contracts.spec import Kind, name_download
from llmjp_builder.convert.checkpoint_config import render_checkpoint_config
from llmjp_builder.convert.conversion import prepare_ranks
from llmjp_builder.convert.layout import resolve_layout
from llmjp_builder.quantize.activations import find_or_calibrate_amax, read_given_amax
from llmjp_builder.quantize.calibration.passages import read_passages
from llmjp_builder.quantize.unified import prepare_unified
from llmjp_builder.sources.fetch import FetchedSource, fetch_source
from llmjp_builder.sources.judging import judge_source
from llmjp_builder.sources.selection import CONFIG
from llmjp_builder.store.hashing import Fingerprint
from llmjp_builder.store.leases import release_lease
from llmjp_builder.tokenizer import list_tokenizer_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from llmjp_builder.contracts.spec import BuildSpec, Progress
    from llmjp_builder.convert.amax import Amax
    from llmjp_builder.convert.conversion import Conversion
    from llmjp_builder.store.store import Store

    Require = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceAccess:
    """How a source is reached; its contents do not depend on it."""

    token: str | None = None
    """Access token of the hub; None takes what huggingface_hub finds."""
    remember_hashes: bool = True
    """Take SHA-256 of a folder's unchanged files from the store's cache."""
    on_progress: Callable[[Progress], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AcquiredSource:
    """A local, hashed source, and its planned conversion."""

    folder: Path
    label: str
    """The repository's or the folder's name, for people."""
    conversion: Conversion
    amax: Amax | None
    """Largest activations, for FP8's scales."""
    tokenizer: tuple[str, ...]
    """Names of the tokenizer's files."""
    sha256: Mapping[str, str]
    """SHA-256 of every file that is read, by name."""
    fingerprints: Mapping[str, Fingerprint]
    """Fingerprints taken before the files were hashed."""
    download: str | None = None
    """Name of the download in the store, if it came from a hub."""

    def require_unchanged(self) -> None:
        """Raise if a file was modified since it was hashed.

        Raises:
            SourceChanged: the message names the file.
        """
        for name, fingerprint in self.fingerprints.items():
            if Fingerprint.read(self.folder / name) != fingerprint:
                raise SourceChanged(
                    f"{self.folder / name}: was modified during the build; try again"
                )


@contextmanager
def acquired_source(
    spec: BuildSpec, store: Store, access: SourceAccess, require: Require
) -> Iterator[AcquiredSource]:
    """Yield the source of `spec`; a download is kept from garbage collection until the block ends.

    For FP8 it is calibrated, unless a stored or given result is there.

    Args:
        spec: what to build.
        store: where downloads go.
        access: how to reach the source.
        require: called with config.json of the TensorRT-LLM checkpoint, where there will be one;
            raises if it cannot be used.

    Raises:
        BuilderError: as `sources.fetch`, `conversion.prepare_ranks` and `quantize.calibration` say.
    """
    _require_texts(spec)
    if spec.source.path is not None:
        folder = Path(spec.source.path)
        prepared = _prepare(spec, folder, require)
        fetched = _fetch(spec, store, access, require)
        yield _calibrate(_combine(prepared, fetched), spec, store, access)
        return
    with _fetched_source(spec, store, access, require) as fetched:
        source = _combine(_prepare(spec, fetched.path, require), fetched)
        yield _calibrate(source, spec, store, access)
        with suppress(BuilderError):
            name, label = name_download(fetched.resolved.digest), spec.source.repository
            release_lease(store.root, name, "llmjp build", label=label)


def _require_texts(spec: BuildSpec) -> None:
    """Raise, before any download, if calibration is ahead and its texts are unusable."""
    if spec.quantization == "fp8" and spec.calibration and spec.activation_amax is None:
        read_passages(Path(spec.calibration))


def _calibrate(
    source: AcquiredSource, spec: BuildSpec, store: Store, access: SourceAccess
) -> AcquiredSource:
    """Add `amax` where FP8 needs it."""
    amax = find_or_calibrate_amax(
        source.conversion,
        source.amax,
        texts=None if spec.calibration is None else Path(spec.calibration),
        store=store.root,
        source_sha256=source.sha256,
        on_progress=access.on_progress,
    )
    return replace(source, amax=amax)


def _fetch(spec: BuildSpec, store: Store, access: SourceAccess, require: Require) -> FetchedSource:
    def accept(folder: Path) -> None:
        config = judge_source(folder, spec.backend)
        if spec.backend.kind is not Kind.UNIFIED:
            require(render_checkpoint_config(config, resolve_layout(config, spec)))

    return fetch_source(
        spec.source,
        store=store.root,
        token=access.token,
        endpoint=spec.endpoint,
        accepted_licence=spec.accepted_licence,
        on_progress=access.on_progress,
        remember_hashes=access.remember_hashes,
        accept=accept,
    )


@contextmanager
def _fetched_source(
    spec: BuildSpec, store: Store, access: SourceAccess, require: Require
) -> Iterator[FetchedSource]:
    """Yield the fetched source; fetch again if it was collected before we held it."""
    while True:
        fetched = _fetch(spec, store, access, require)
        with store.in_use(name_download(fetched.resolved.digest)):
            if fetched.path.is_dir():
                yield fetched
                return


@dataclass(frozen=True, slots=True)
class _PreparedSource:
    """Outcome of reading headers, before anything is hashed."""

    conversion: Conversion
    amax: Amax | None
    tokenizer: tuple[str, ...]
    fingerprints: dict[str, Fingerprint]


def _prepare(spec: BuildSpec, folder: Path, require: Require) -> _PreparedSource:
    judge_source(folder, spec.backend)
    if spec.backend.kind is Kind.UNIFIED:
        conversion = prepare_unified(folder, spec)
    else:
        conversion = prepare_ranks(folder, spec)
        require(conversion.documents[CONFIG])
    amax = read_given_amax(
        conversion,
        file=None if spec.activation_amax is None else Path(spec.activation_amax),
        texts=None if spec.calibration is None else Path(spec.calibration),
    )
    tokenizer = list_tokenizer_files(folder)
    names = (*conversion.checkpoint.files, *tokenizer)
    fingerprints = {name: Fingerprint.read(folder / name) for name in names}
    return _PreparedSource(conversion, amax, tokenizer, fingerprints)


def _combine(prepared: _PreparedSource, fetched: FetchedSource) -> AcquiredSource:
    """Combine headers and hashes; both must be of the same files."""
    files, fingerprints = fetched.resolved.files, prepared.fingerprints
    if files.keys() != fingerprints.keys() or any(
        files[name].size != fingerprint.size for name, fingerprint in fingerprints.items()
    ):
        raise SourceChanged(
            f"{fetched.path}: its files were modified while they were hashed; try again"
        )
    return AcquiredSource(
        folder=fetched.path,
        label=fetched.resolved.source.repository or fetched.path.absolute().name,
        conversion=prepared.conversion,
        amax=prepared.amax,
        tokenizer=prepared.tokenizer,
        sha256={name: record.sha256 for name, record in files.items()},
        fingerprints=fingerprints,
        download=None
        if fetched.resolved.source.repository is None
        else name_download(fetched.resolved.digest),
    )


def refuse_rank_options(spec: BuildSpec) -> None:
    """Raise if options about ranks are given for a checkpoint that has none.

    Raises:
        InvalidSpec: the message names them.
    """
    if spec.backend.kind is not Kind.UNIFIED:
        return
    if spec.pad_intermediate > 1 or spec.embedding_sharding_dim is not None:
        raise InvalidSpec(
            f"backend {spec.backend} divides the model itself: leave out "
            "pad_intermediate and embedding_sharding_dim"
        )
