"""A build from spec to published artefact: fetch, convert, assemble, publish.

Only this module joins the steps. The artefact's key is known after `fetch`; from then on a finished
artefact of that key ends the build, and the key's lock lets only one process work on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmjp_builder.conversion import CONVERTER_REVISION, prepare, write
from llmjp_builder.disk import os_errors, sync_directory, write_durably
from llmjp_builder.errors import BadArtefact, InvalidSpec, SourceChanged, Unsupported
from llmjp_builder.hashing import Fingerprint, hash_files
from llmjp_builder.progress import Reporter
from llmjp_builder.quantize.activations import activation_amax
from llmjp_builder.quantize.unified import prepare_unified
from llmjp_builder.spec import Backend, KeyInputs, Kind, Manifest, Step
from llmjp_builder.store import Store, check_artefact
from llmjp_builder.tokenizer import tokenizer_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmjp_builder.conversion import Conversion
    from llmjp_builder.quantize.amax import Amax
    from llmjp_builder.spec import BuildSpec, Progress


@dataclass(frozen=True, slots=True)
class BuildResult:
    """Where the artefact is."""

    path: Path
    key: str
    cache_hit: bool
    """Whether it was there already."""
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class _Fetched:
    """A source that is here, hashed, and found convertible."""

    folder: Path
    conversion: Conversion
    amax: Amax | None
    """For FP8."""
    tokenizer: tuple[str, ...]
    inputs: KeyInputs
    fingerprints: dict[str, Fingerprint]


def build(
    spec: BuildSpec,
    *,
    store: Path,
    on_progress: Callable[[Progress], None] | None = None,
    verify: bool = True,
    remember_hashes: bool = True,
) -> BuildResult:
    """The artefact that `spec` describes: found in the store, or built into it.

    Args:
        spec: what to build.
        store: its folder, made if missing.
        on_progress: called on every change of step and a few times a second, from several threads
            but never from two at once.
        verify: compare an artefact that is already there with its SHA-256 sums; False compares
            sizes only.
        remember_hashes: take the sums of unchanged source files from the store's cache; False
            reads every byte.

    Raises:
        BuilderError: nothing that could be mistaken for a result is left behind.
    """
    place, reporter = Store(store), Reporter(on_progress)
    fetched = _fetch(spec, place, reporter, remember_hashes=remember_hashes)
    key = fetched.inputs.key

    def on_wait() -> None:
        reporter.begin(Step.CONVERT, 0, f"another process is building {key}; waiting for it")

    with place.building(key, on_wait):
        if manifest := _published(place, key, reporter, verify=verify):
            return BuildResult(place.path_of(key), key, True, manifest)
        with place.work_folder(key) as work:
            _convert(fetched, work, reporter)
            manifest = _assemble(fetched, work, reporter)
            reporter.begin(Step.PUBLISH, 0, f"publishing {key}")
            path = place.publish(work, manifest)
    reporter.end()
    return BuildResult(path, key, False, manifest)


def _fetch(spec: BuildSpec, store: Store, reporter: Reporter, *, remember_hashes: bool) -> _Fetched:
    """Everything that can be refused is refused here, before a byte is hashed or written."""
    reporter.begin(Step.FETCH, 0, "checking the checkpoint")
    folder = _local_folder(spec)
    conversion = _prepared(spec, folder)
    amax = activation_amax(
        conversion,
        file=None if spec.activation_amax is None else Path(spec.activation_amax),
        texts=None if spec.calibration is None else Path(spec.calibration),
    )
    tokenizer = tokenizer_files(folder, conversion.checkpoint.config.vocab_size)
    names = (*conversion.checkpoint.files, *tokenizer)
    fingerprints = {name: Fingerprint.of(folder / name) for name in names}
    total = sum(fingerprint.size for fingerprint in fingerprints.values())
    reporter.begin(Step.FETCH, total, f"hashing {folder}")
    cache = store.hash_cache if remember_hashes else None
    records = hash_files(folder, names, reporter.add, cache)
    if cache is not None:
        cache.save()
    reporter.end()
    inputs = _inputs(conversion, amax, {name: record.sha256 for name, record in records.items()})
    return _Fetched(folder, conversion, amax, tokenizer, inputs, fingerprints)


def _prepared(spec: BuildSpec, folder: Path) -> Conversion:
    match spec.backend.kind:
        case Kind.RANKS:
            return prepare(
                folder,
                dtype=spec.dtype,
                tensor_parallel=spec.tensor_parallel,
                pipeline_parallel=spec.pipeline_parallel,
                embedding_sharding_dim=spec.embedding_sharding_dim,
                quantization=spec.quantization,
                kv_cache=spec.kv_cache,
                pad_intermediate=spec.pad_intermediate,
            )
        case Kind.UNIFIED:
            if spec.pad_intermediate > 1 or spec.embedding_sharding_dim is not None:
                raise InvalidSpec(
                    f"backend {spec.backend} divides the model itself: leave out "
                    "pad_intermediate and embedding_sharding_dim"
                )
            return prepare_unified(
                folder, dtype=spec.dtype, quantization=spec.quantization, kv_cache=spec.kv_cache
            )
        case Kind.ENGINE:
            supported = ", ".join(b for b in Backend if b.kind is not Kind.ENGINE)
            raise Unsupported(
                f"backend {spec.backend} cannot be built for yet; supported: {supported}"
            )


def _inputs(conversion: Conversion, amax: Amax | None, sha256: dict[str, str]) -> KeyInputs:
    layout = conversion.layout
    return KeyInputs(
        kind=conversion.kind,
        source_sha256=sha256,
        dtype=layout.dtype,
        converter_revision=CONVERTER_REVISION,
        quantization=layout.quantization,
        kv_cache=layout.kv_cache,
        calibration_digest=conversion.calibration_digest(amax),
        tensor_parallel=layout.tensor_parallel,
        pipeline_parallel=layout.pipeline_parallel,
        pad_intermediate=layout.intermediate_padding,
        embedding_sharding_dim=layout.embedding_sharding_dim,
    )


def _local_folder(spec: BuildSpec) -> Path:
    if spec.source.path is None:
        raise Unsupported(
            f"{spec.source.repository}: only local folders are read so far; download it first "
            "(hf download REPOSITORY --local-dir DIR) and give the folder"
        )
    return Path(spec.source.path)


def _published(store: Store, key: str, reporter: Reporter, *, verify: bool) -> Manifest | None:
    """The manifest of a whole artefact of that key; None if there is none, or a damaged one."""
    path = store.path_of(key)
    if not path.exists():
        return None
    try:
        total = sum(record.size for record in Manifest.load(path).files.values())
        reporter.begin(Step.PUBLISH, total if verify else 0, f"verifying {path}")
        manifest = check_artefact(path, reporter.add, hashes=verify)
    except BadArtefact as exc:
        reporter.begin(Step.PUBLISH, 0, f"building again, the artefact is damaged: {exc}")
        return None
    reporter.end()
    return manifest


def _convert(fetched: _Fetched, work: Path, reporter: Reporter) -> None:
    total = fetched.conversion.plan.transfer_bytes
    reporter.begin(Step.CONVERT, total, f"converting {fetched.folder}")
    write(fetched.conversion, work, reporter.add, fetched.amax)
    reporter.end()


def _assemble(fetched: _Fetched, work: Path, reporter: Reporter) -> Manifest:
    """The tokenizer joins the weights; every file is hashed for the manifest."""
    folder = work / "tokenizer"
    with os_errors(folder):
        folder.mkdir()
    for name in fetched.tokenizer:
        with os_errors(fetched.folder / name):
            data = (fetched.folder / name).read_bytes()
        write_durably(folder / name, data)
    sync_directory(folder)
    for name, fingerprint in fetched.fingerprints.items():
        if Fingerprint.of(fetched.folder / name) != fingerprint:
            raise SourceChanged(f"{fetched.folder / name}: changed during the build; try again")
    names = sorted(p.relative_to(work).as_posix() for p in work.rglob("*") if p.is_file())
    total = sum((work / name).stat().st_size for name in names)
    reporter.begin(Step.ASSEMBLE, total, f"hashing {work}")
    files = hash_files(work, names, reporter.add)
    reporter.end()
    return Manifest(
        kind=fetched.inputs.kind,
        key=fetched.inputs.key,
        inputs=fetched.inputs,
        files=files,
        bytes_per_rank=fetched.conversion.bytes_per_rank,
        versions={"converter": CONVERTER_REVISION},
    )
