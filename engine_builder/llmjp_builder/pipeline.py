"""A build from spec to published artefact: fetch, calibrate, convert, compile, assemble, publish.

Only this module joins the steps. Each leaves its result in the store under its own key, so that an
interrupted build resumes: a download at the byte it had reached, an engine from its checkpoint, a
finished work folder with its publication. A key's lock admits one process; others wait and take its
result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

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
from llmjp_builder.contracts.spec import EngineInputs, KeyInputs, Kind, Step
from llmjp_builder.convert.conversion import CONVERTER_REVISION, write_conversion
from llmjp_builder.progress import Reporter
from llmjp_builder.source_step import (
    AcquiredSource,
    SourceAccess,
    acquired_source,
    refuse_rank_options,
)
from llmjp_builder.store.artefacts import ArtefactRecipe, BuildResult, find_or_make_artefact
from llmjp_builder.store.files import os_errors, sync_directory, write_durably
from llmjp_builder.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from llmjp_builder.contracts.spec import BuildSpec, Progress

__all__ = ["BuildResult", "build"]


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

    Raises:
        BuilderError: nothing that could be mistaken for a result is left behind.
    """
    refuse_rank_options(spec)
    reporter = Reporter(on_progress)
    reporter.begin(Step.FETCH, 0, "checking the checkpoint")
    compiler = _Compiler.detect(spec) if spec.backend.kind is Kind.ENGINE else None
    access = SourceAccess(token=token, remember_hashes=remember_hashes, on_progress=on_progress)
    require = _accept_any if compiler is None else compiler.require
    with acquired_source(spec, place := Store(store), access, require) as source:
        checkpoint = _make_checkpoint_recipe(source, reporter)
        if compiler is None:
            made = find_or_make_artefact(checkpoint, place, reporter, verify=verify)
            return replace(made, download=source.download)
        for warning in compiler.list_warnings(source):
            on_warning(warning)

        def ranks() -> Path:
            return find_or_make_artefact(checkpoint, place, reporter, verify=verify).path

        with place.in_use(checkpoint.inputs.key):
            limits = _Limits(place.root, compile_limit_s, on_progress)
            engine = compiler.make_recipe(checkpoint.inputs, source, ranks, limits)
            made = find_or_make_artefact(engine, place, reporter, verify=verify)
            return replace(made, download=source.download)


def _accept_any(_: Mapping[str, Any]) -> None:
    """Accept any checkpoint."""


def _make_checkpoint_recipe(source: AcquiredSource, reporter: Reporter) -> ArtefactRecipe:
    """Return how to make an artefact of kind `ranks` or `unified`."""
    conversion = source.conversion

    def make(work: Path) -> None:
        total = conversion.plan.transfer_bytes
        reporter.begin(Step.CONVERT, total, f"converting {source.folder}")
        write_conversion(conversion, work, reporter.add, source.amax)
        _copy_tokenizer(source, work)
        source.require_unchanged()
        reporter.end()

    return ArtefactRecipe(
        inputs=_make_key_inputs(source),
        make=make,
        bytes_per_rank=lambda _: conversion.bytes_per_rank,
        versions={"converter": CONVERTER_REVISION},
        label=source.label,
    )


def _make_key_inputs(source: AcquiredSource) -> KeyInputs:
    layout = source.conversion.layout
    return KeyInputs(
        kind=source.conversion.kind,
        source_sha256=source.sha256,
        dtype=layout.dtype,
        converter_revision=CONVERTER_REVISION,
        quantization=layout.quantization,
        kv_cache=layout.kv_cache,
        calibration_digest=source.conversion.digest_calibration(source.amax),
        tensor_parallel=layout.tensor_parallel,
        pipeline_parallel=layout.pipeline_parallel,
        pad_intermediate=layout.intermediate_padding,
        embedding_sharding_dim=layout.embedding_sharding_dim,
    )


def _copy_tokenizer(source: AcquiredSource, work: Path) -> None:
    folder = work / "tokenizer"
    with os_errors(folder):
        folder.mkdir()
    for name in source.tokenizer:
        with os_errors(source.folder / name):
            data = (source.folder / name).read_bytes()
        write_durably(folder / name, data)
    sync_directory(folder)
    sync_directory(work)


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

    def list_warnings(self, source: AcquiredSource) -> tuple[str, ...]:
        """List options that will not do what one may expect."""
        model = parse_compiler_model(source.conversion.documents["config.json"], str(source.folder))
        return decide_options(self.spec, model, self.gpu).warnings

    def make_recipe(
        self,
        checkpoint: KeyInputs,
        source: AcquiredSource,
        ranks: Callable[[], Path],
        limits: _Limits,
    ) -> ArtefactRecipe:
        """Return how to make the engine; its checkpoint is made only if the engine has to be."""
        inputs = replace(
            checkpoint,
            kind=Kind.ENGINE,
            engine=self._make_engine_inputs(source.conversion.documents["config.json"]),
        )

        def make(work: Path) -> None:
            folder = ranks()
            _copy_tokenizer(source, work)
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
            source.require_unchanged()

        def sizes(work: Path) -> tuple[int, ...]:
            world = source.conversion.layout.world
            with os_errors(work):
                return tuple((work / f"rank{i}.engine").stat().st_size for i in range(world))

        return ArtefactRecipe(
            inputs=inputs,
            make=make,
            bytes_per_rank=sizes,
            versions={
                "converter": CONVERTER_REVISION,
                "tensorrt_llm": self.versions.tensorrt_llm,
                "tensorrt": self.versions.tensorrt,
            },
            label=source.label,
            checkpoint_key=checkpoint.key,
        )

    def _make_engine_inputs(self, document: Mapping[str, Any]) -> EngineInputs:
        return decide_engine_inputs(document, self.spec, self.gpu, self.versions)
