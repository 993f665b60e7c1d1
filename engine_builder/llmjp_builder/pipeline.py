"""A build from spec to published artefact: fetch, calibrate, convert, compile, assemble, publish.

Only this module joins the steps. Each leaves its result in the store under its own key, so that an
interrupted build resumes: a download at the byte it had reached, an engine from its checkpoint, a
finished work folder with its publication. A key's lock admits one process; others wait and take its
result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from llmjp_builder.compile import (
    Gpu,
    Versions,
    compile_engine,
    decide_engine_inputs,
    decide_options,
    detect_gpus,
    detect_versions,
    parse_compiler_model,
)
from llmjp_builder.contracts.errors import BadArtefact, BuilderError, CheckpointMissing
from llmjp_builder.contracts.spec import (
    Backend,
    BuildSpec,
    EngineInputs,
    KeyInputs,
    Kind,
    Manifest,
    Step,
)
from llmjp_builder.convert.conversion import write_conversion
from llmjp_builder.progress import Reporter
from llmjp_builder.source_step import (
    AcquiredSource,
    SourceAccess,
    acquired_source,
    refuse_rank_options,
)
from llmjp_builder.store.artefacts import ArtefactRecipe, BuildResult, find_or_make_artefact
from llmjp_builder.store.files import (
    os_errors,
    read_json_object,
    sync_directory,
    write_durably,
)
from llmjp_builder.store.store import Store, check_artefact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from llmjp_builder.contracts.spec import Progress

__all__ = ["BuildResult", "build", "compile_checkpoint"]


def build(
    spec: BuildSpec,
    *,
    store: Path,
    token: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_warning: Callable[[str], None] = lambda _: None,
    verify: bool = True,
    remember_hashes: bool = True,
    compile_limit_s: float | None = None,
    until_checkpoint: bool = False,
) -> BuildResult:
    """Return the artefact that `spec` describes: found in the store, or built into it.

    Args:
        spec: what to build.
        store: its folder, created if missing.
        token: for the hub; None takes what huggingface_hub finds (HF_TOKEN, `hf auth login`).
        on_progress: called on every change of step and a few times a second, from several threads
            but never from two at once.
        on_warning: called with warnings.
        verify: check an existing artefact by SHA-256; False compares sizes only.
        remember_hashes: take SHA-256 of unchanged source files from the store's cache; False
            reads every byte.
        compile_limit_s: how long `trtllm-build` may take; None for no limit.
        until_checkpoint: return the checkpoint that an engine is compiled from; that needs neither
            GPU nor TensorRT-LLM.

    Raises:
        BuilderError: nothing that could be mistaken for a result is left behind.
    """
    refuse_rank_options(spec)
    reporter = Reporter(on_progress)
    reporter.begin(Step.FETCH, 0, "checking the checkpoint")
    compiles = spec.backend.kind is Kind.ENGINE and not until_checkpoint
    compiler = _Compiler.detect(spec) if compiles else None
    access = SourceAccess(token=token, remember_hashes=remember_hashes, on_progress=on_progress)
    require = _accept_any if compiler is None else compiler.require
    with acquired_source(spec, place := Store(store), access, require) as source:
        checkpoint = _make_checkpoint_recipe(source, reporter)
        if compiler is None:
            made = find_or_make_artefact(checkpoint, place, reporter, verify=verify)
            return replace(made, download=source.download)
        checked = _Checkpoint.of_source(source, checkpoint.inputs)
        for warning in compiler.list_warnings(checked):
            on_warning(warning)

        def ranks() -> Path:
            return find_or_make_artefact(checkpoint, place, reporter, verify=verify).path

        with place.in_use(checkpoint.inputs.key):
            limits = _Limits(place.root, compile_limit_s, on_progress)
            engine = compiler.make_recipe(checked, ranks, limits)
            made = find_or_make_artefact(engine, place, reporter, verify=verify)
            return replace(made, download=source.download)


def compile_checkpoint(
    key: str,
    *,
    store: Path,
    limits: Mapping[str, Any] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_warning: Callable[[str], None] = lambda _: None,
    verify: bool = True,
    compile_limit_s: float | None = None,
) -> BuildResult:
    """Return the engine of a checkpoint in the store, without its source.

    It is the one that `build` makes of the same source and limits.

    Args:
        key: key of the checkpoint.
        store: the store's folder.
        limits: `max_batch_size`, `max_input_len`, `max_seq_len` and `options` of a `BuildSpec`.
        on_progress: see `build`.
        on_warning: see `build`.
        verify: see `build`; the checkpoint, too.
        compile_limit_s: see `build`.

    Raises:
        CheckpointMissing: no checkpoint of that key is there, and names those that are; or it is
            damaged.
        BuilderError: as `build` says.
    """
    reporter, place = Reporter(on_progress), Store(store)
    with place.in_use(key):
        manifest = _read_checkpoint(place, key, reporter, verify=verify)
        path = place.get_path(key)
        spec = _make_compile_spec(manifest.inputs, path, limits or {})
        compiler = _Compiler.detect(spec)
        checkpoint = _Checkpoint.of_artefact(path, manifest)
        compiler.require(checkpoint.document)
        for warning in compiler.list_warnings(checkpoint):
            on_warning(warning)
        limited = _Limits(place.root, compile_limit_s, on_progress)
        engine = compiler.make_recipe(checkpoint, lambda: path, limited)
        return find_or_make_artefact(engine, place, reporter, verify=verify)


def _read_checkpoint(place: Store, key: str, reporter: Reporter, *, verify: bool) -> Manifest:
    """Return the manifest of an intact checkpoint for trtllm-build."""
    known = [each for each in place.list_keys() if _is_checkpoint(place.get_path(each))]
    if key not in known:
        listed = ", ".join(known) or "none"
        raise CheckpointMissing(
            f"{key}: {place.root} has no checkpoint of that key; it has: {listed}. {_MAKE_AGAIN}"
        )
    path = place.get_path(key)
    total = sum(record.size for record in Manifest.load(path).files.values())
    reporter.begin(Step.PUBLISH, total if verify else 0, f"verifying {path}")
    try:
        manifest = check_artefact(path, reporter.add, hashes=verify)
    except BadArtefact as exc:
        raise CheckpointMissing(f"{exc}; {_MAKE_AGAIN}") from exc
    reporter.end()
    return manifest


_MAKE_AGAIN: Final = "`llmjp build SRC --backend tensorrt --until checkpoint` makes it"


def _is_checkpoint(path: Path) -> bool:
    try:
        return Manifest.load(path).kind is Kind.RANKS
    except BuilderError:
        return False


def _make_compile_spec(inputs: KeyInputs, path: Path, limits: Mapping[str, Any]) -> BuildSpec:
    """Return the spec of an engine whose checkpoint is there: its layout is settled."""
    settled = {
        "dtype": inputs.dtype,
        "quantization": inputs.quantization,
        "kv_cache": inputs.kv_cache,
        "tensor_parallel": inputs.tensor_parallel,
        "pipeline_parallel": inputs.pipeline_parallel,
    }
    given = {name: value for name, value in limits.items() if value is not None}
    source = {"path": str(path)}
    return BuildSpec.from_json(
        {"source": source, "backend": Backend.TENSORRT.value, **settled, **given}
    )


def _accept_any(_: Mapping[str, Any]) -> None:
    """Accept any checkpoint."""


def _make_checkpoint_recipe(source: AcquiredSource, reporter: Reporter) -> ArtefactRecipe:
    """Return how to make an artefact of kind `ranks` or `unified`."""
    conversion = source.conversion

    def make(work: Path) -> None:
        total = conversion.plan.transfer_bytes
        reporter.begin(Step.CONVERT, total, f"converting {source.folder}")
        write_conversion(conversion, work, reporter.add, source.amax)
        _copy_tokenizer(source.folder, source.tokenizer, work)
        source.require_unchanged()
        reporter.end()

    return ArtefactRecipe(
        inputs=_make_key_inputs(source),
        make=make,
        bytes_per_rank=lambda _: conversion.bytes_per_rank,
        versions={"converter": conversion.revision},
        label=source.label,
    )


def _make_key_inputs(source: AcquiredSource) -> KeyInputs:
    layout = source.conversion.layout
    return KeyInputs(
        kind=source.conversion.kind,
        source_sha256=source.sha256,
        dtype=layout.dtype,
        converter_revision=source.conversion.revision,
        quantization=layout.quantization,
        kv_cache=layout.kv_cache,
        calibration_digest=source.conversion.digest_calibration(source.amax),
        tensor_parallel=layout.tensor_parallel,
        pipeline_parallel=layout.pipeline_parallel,
        pad_intermediate=layout.intermediate_padding,
        embedding_sharding_dim=layout.embedding_sharding_dim,
    )


def _copy_tokenizer(folder: Path, names: Iterable[str], work: Path) -> None:
    made = work / "tokenizer"
    with os_errors(made):
        made.mkdir()
    for name in names:
        with os_errors(folder / name):
            data = (folder / name).read_bytes()
        write_durably(made / name, data)
    sync_directory(made)
    sync_directory(work)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checkpoint:
    """What an engine is compiled from: planned from a source, or there in the store."""

    inputs: KeyInputs
    document: Mapping[str, Any]
    """Its config.json."""
    where: str
    """For messages."""
    label: str
    tokenizer_folder: Path
    tokenizer: tuple[str, ...]
    """Names of the tokenizer's files."""
    require_unchanged: Callable[[], None]
    """Raise if what it was read from has changed."""

    @classmethod
    def of_source(cls, source: AcquiredSource, inputs: KeyInputs) -> _Checkpoint:
        """Return the checkpoint that a source is converted to."""
        return cls(
            inputs=inputs,
            document=source.conversion.documents["config.json"],
            where=str(source.folder),
            label=source.label,
            tokenizer_folder=source.folder,
            tokenizer=source.tokenizer,
            require_unchanged=source.require_unchanged,
        )

    @classmethod
    def of_artefact(cls, path: Path, manifest: Manifest) -> _Checkpoint:
        """Return the checkpoint that is an artefact, which nobody changes."""
        prefix = "tokenizer/"
        names = (name for name in manifest.files if name.startswith(prefix))
        return cls(
            inputs=manifest.inputs,
            document=read_json_object(path / "config.json"),
            where=str(path),
            label=manifest.key,
            tokenizer_folder=path / "tokenizer",
            tokenizer=tuple(sorted(name.removeprefix(prefix) for name in names)),
            require_unchanged=lambda: None,
        )


@dataclass(frozen=True, slots=True)
class _Limits:
    """How a compiler run is limited and observed."""

    store: Path
    time_s: float | None
    on_progress: Callable[[Progress], None] | None


@dataclass(frozen=True, slots=True)
class _Compiler:
    """`trtllm-build` on this machine, and the spec to build."""

    spec: BuildSpec
    gpu: Gpu
    versions: Versions

    @classmethod
    def detect(cls, spec: BuildSpec) -> _Compiler:
        """Detect GPU and versions of this machine.

        Raises:
            UnsupportedRequest: no GPU, or no TensorRT-LLM.
        """
        return cls(spec, detect_gpus(), detect_versions())

    def require(self, document: Mapping[str, Any]) -> None:
        """Raise if no engine of such a checkpoint can be built here."""
        self._make_engine_inputs(document)

    def list_warnings(self, checkpoint: _Checkpoint) -> tuple[str, ...]:
        """List options that will not do what one may expect."""
        model = parse_compiler_model(checkpoint.document, checkpoint.where)
        return decide_options(self.spec, model, self.gpu).warnings

    def make_recipe(
        self,
        checkpoint: _Checkpoint,
        ranks: Callable[[], Path],
        limits: _Limits,
    ) -> ArtefactRecipe:
        """Return how to make the engine; its checkpoint is made only if the engine has to be."""
        inputs = replace(
            checkpoint.inputs,
            kind=Kind.ENGINE,
            engine=self._make_engine_inputs(checkpoint.document),
        )

        def make(work: Path) -> None:
            folder = ranks()
            _copy_tokenizer(checkpoint.tokenizer_folder, checkpoint.tokenizer, work)
            compile_engine(
                folder,
                work,
                spec=self.spec,
                gpu=self.gpu,
                versions=self.versions,
                timing_caches=limits.store / "timing-caches",
                log=limits.store / "logs" / f"{inputs.key}.compile.log",
                on_progress=limits.on_progress,
                time_limit_s=limits.time_s,
            )
            checkpoint.require_unchanged()

        def sizes(work: Path) -> tuple[int, ...]:
            world = inputs.tensor_parallel * inputs.pipeline_parallel
            with os_errors(work):
                return tuple((work / f"rank{i}.engine").stat().st_size for i in range(world))

        return ArtefactRecipe(
            inputs=inputs,
            make=make,
            bytes_per_rank=sizes,
            versions={
                "converter": checkpoint.inputs.converter_revision,
                "tensorrt_llm": self.versions.tensorrt_llm,
                "tensorrt": self.versions.tensorrt,
            },
            label=checkpoint.label,
            checkpoint_key=checkpoint.inputs.key,
        )

    def _make_engine_inputs(self, document: Mapping[str, Any]) -> EngineInputs:
        return decide_engine_inputs(document, self.spec, self.gpu, self.versions)
