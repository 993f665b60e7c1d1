"""The first step of a build: its source is here, known by its hashes, and found convertible.

Whatever can be refused is refused here, as early as it can be known: options before anything, a
model's shape before its weights are downloaded, a folder's headers before a byte is hashed.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmjp_builder.contracts.errors import BuilderError, InvalidSpec, SourceChanged
from llmjp_builder.contracts.spec import Kind, download_name
from llmjp_builder.convert.checkpoint_config import render_checkpoint_config
from llmjp_builder.convert.conversion import prepare_ranks
from llmjp_builder.convert.layout import resolve_layout
from llmjp_builder.convert.model_config import parse_model_config
from llmjp_builder.quantize.activations import activation_amax, given_amax
from llmjp_builder.quantize.calibration.passages import passages
from llmjp_builder.quantize.unified import prepare_unified
from llmjp_builder.sources.fetch import FetchedSource, fetch
from llmjp_builder.sources.selection import CONFIG
from llmjp_builder.store.files import read_json_object
from llmjp_builder.store.hashing import Fingerprint
from llmjp_builder.store.leases import release_use
from llmjp_builder.tokenizer import tokenizer_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from llmjp_builder.contracts.spec import BuildSpec, Progress
    from llmjp_builder.convert.amax import Amax
    from llmjp_builder.convert.conversion import Conversion
    from llmjp_builder.store.store import Store

    Require = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a source is reached; nothing that its contents depend on."""

    token: str | None = None
    """For the hub; None takes what huggingface_hub finds."""
    remember_hashes: bool = True
    """Take the sums of a folder's unchanged files from the store's cache."""
    on_progress: Callable[[Progress], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquired:
    """A source that is here, hashed, and found convertible."""

    folder: Path
    label: str
    """The repository's or the folder's name, for people."""
    conversion: Conversion
    amax: Amax | None
    """For FP8: what its activation scales are made of."""
    tokenizer: tuple[str, ...]
    """Names of the tokenizer's files."""
    sha256: Mapping[str, str]
    """Of every file that is read, by name."""
    fingerprints: Mapping[str, Fingerprint]
    """From before they were hashed."""
    download: str | None = None
    """Its name in the store, if it came from a hub."""

    def require_unchanged(self) -> None:
        """Nothing, if nobody wrote to the files since.

        Raises:
            SourceChanged: somebody did.
        """
        for name, fingerprint in self.fingerprints.items():
            if Fingerprint.of(self.folder / name) != fingerprint:
                raise SourceChanged(f"{self.folder / name}: changed during the build; try again")


@contextmanager
def acquired(spec: BuildSpec, store: Store, access: Access, require: Require) -> Iterator[Acquired]:
    """The source of `spec`; what was downloaded stays in the store until the block ends.

    For FP8 it is calibrated, unless that was done before or the result is given.

    Args:
        spec: what to build.
        store: where downloads go.
        access: how to reach the source.
        require: called with config.json of the TensorRT-LLM checkpoint, where there will be one;
            raises if it is of no use.

    Raises:
        BuilderError: as `sources.fetch`, `conversion.prepare_ranks` and `quantize.calibration` say.
    """
    _require_texts(spec)
    if spec.source.path is not None:
        folder = Path(spec.source.path)
        early = _prepared(spec, folder, require)
        got = _fetched(spec, store, access, require)
        yield _calibrated(_acquired(early, got), spec, store, access)
        return
    with _kept(spec, store, access, require) as got:
        found = _acquired(_prepared(spec, got.path, require), got)
        yield _calibrated(found, spec, store, access)
        with suppress(BuilderError):
            name, label = download_name(got.resolved.digest), spec.source.repository
            release_use(store.root, name, "llmjp build", label=label)


def _require_texts(spec: BuildSpec) -> None:
    """Before anything is downloaded: the texts can be calibrated on, if that will be done."""
    if spec.quantization == "fp8" and spec.calibration and spec.activation_amax is None:
        passages(Path(spec.calibration))


def _calibrated(got: Acquired, spec: BuildSpec, store: Store, access: Access) -> Acquired:
    """With `amax`, where it is needed."""
    amax = activation_amax(
        got.conversion,
        got.amax,
        texts=None if spec.calibration is None else Path(spec.calibration),
        store=store.root,
        source_sha256=got.sha256,
        on_progress=access.on_progress,
    )
    return replace(got, amax=amax)


def _fetched(spec: BuildSpec, store: Store, access: Access, require: Require) -> FetchedSource:
    def accept(folder: Path) -> None:
        if spec.backend.kind is not Kind.UNIFIED:
            path = folder / CONFIG
            config = parse_model_config(read_json_object(path), str(path))
            require(render_checkpoint_config(config, resolve_layout(config, spec)))

    return fetch(
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
def _kept(
    spec: BuildSpec, store: Store, access: Access, require: Require
) -> Iterator[FetchedSource]:
    """A downloaded source that is not collected; fetched again if it was just before that."""
    while True:
        got = _fetched(spec, store, access, require)
        with store.in_use(download_name(got.resolved.digest)):
            if got.path.is_dir():
                yield got
                return


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What the headers say, before anything is hashed."""

    conversion: Conversion
    amax: Amax | None
    tokenizer: tuple[str, ...]
    fingerprints: dict[str, Fingerprint]


def _prepared(spec: BuildSpec, folder: Path, require: Require) -> _Prepared:
    if spec.backend.kind is Kind.UNIFIED:
        conversion = prepare_unified(folder, spec)
    else:
        conversion = prepare_ranks(folder, spec)
        require(conversion.documents[CONFIG])
    amax = given_amax(
        conversion,
        file=None if spec.activation_amax is None else Path(spec.activation_amax),
        texts=None if spec.calibration is None else Path(spec.calibration),
    )
    tokenizer = tokenizer_files(folder, conversion.checkpoint.config.vocab_size)
    names = (*conversion.checkpoint.files, *tokenizer)
    fingerprints = {name: Fingerprint.of(folder / name) for name in names}
    return _Prepared(conversion, amax, tokenizer, fingerprints)


def _acquired(prepared: _Prepared, got: FetchedSource) -> Acquired:
    files, fingerprints = got.resolved.files, prepared.fingerprints
    if files.keys() != fingerprints.keys() or any(
        files[name].size != fingerprint.size for name, fingerprint in fingerprints.items()
    ):
        raise SourceChanged(f"{got.path}: its files changed while they were hashed; try again")
    return Acquired(
        folder=got.path,
        label=got.resolved.source.repository or got.path.absolute().name,
        conversion=prepared.conversion,
        amax=prepared.amax,
        tokenizer=prepared.tokenizer,
        sha256={name: record.sha256 for name, record in files.items()},
        fingerprints=fingerprints,
        download=None
        if got.resolved.source.repository is None
        else download_name(got.resolved.digest),
    )


def require_divisible(spec: BuildSpec) -> None:
    """Nothing, unless options about ranks are given for a checkpoint that has none.

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
