"""A build from spec to published artefact: fetch, calibrate, convert, compile, assemble, publish.

Only this module joins the steps. Each leaves its result in the store under a key of its own, so a
build that was killed goes on from the last one: a download from the byte it had reached, an engine
from its checkpoint, and what only had to be published from there. A key's lock lets one process
work on it; others wait and take its result.
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
from llmjp_builder.source_step import Access, Acquired, acquired, require_divisible
from llmjp_builder.store.artefacts import BuildResult, Order, found_or_made
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
    """The artefact that `spec` describes: found in the store, or built into it.

    Args:
        spec: what to build.
        store: its folder, made if missing.
        token: for the hub; None takes what huggingface_hub finds (HF_TOKEN, `hf auth login`).
        on_progress: called on every change of step and a few times a second, from several threads
            but never from two at once.
        on_warning: called with what is worth knowing but no obstacle.
        verify: compare an artefact that is already there with its SHA-256 sums; False compares
            sizes only.
        remember_hashes: take the sums of unchanged source files from the store's cache; False
            reads every byte.
        compile_limit_s: how long `trtllm-build` may take; None for no limit.

    Raises:
        BuilderError: nothing that could be mistaken for a result is left behind.
    """
    require_divisible(spec)
    reporter = Reporter(on_progress)
    reporter.begin(Step.FETCH, 0, "checking the checkpoint")
    compiler = _Compiler.here(spec) if spec.backend.kind is Kind.ENGINE else None
    access = Access(token=token, remember_hashes=remember_hashes, on_progress=on_progress)
    require = _nothing if compiler is None else compiler.require
    with acquired(spec, place := Store(store), access, require) as got:
        checkpoint = _checkpoint_order(got, reporter)
        if compiler is None:
            made = found_or_made(checkpoint, place, reporter, verify=verify)
            return replace(made, download=got.download)
        for warning in compiler.warnings(got):
            on_warning(warning)

        def ranks() -> Path:
            return found_or_made(checkpoint, place, reporter, verify=verify).path

        with place.in_use(checkpoint.inputs.key):
            limits = _Limits(place.root, compile_limit_s, on_progress)
            engine = compiler.order(checkpoint.inputs, got, ranks, limits)
            made = found_or_made(engine, place, reporter, verify=verify)
            return replace(made, download=got.download)


def _nothing(_: Mapping[str, Any]) -> None:
    """Any checkpoint will do."""


def _checkpoint_order(got: Acquired, reporter: Reporter) -> Order:
    """Kind `ranks` or `unified`."""
    conversion = got.conversion

    def make(work: Path) -> None:
        total = conversion.plan.transfer_bytes
        reporter.begin(Step.CONVERT, total, f"converting {got.folder}")
        write_conversion(conversion, work, reporter.add, got.amax)
        _copy_tokenizer(got, work)
        got.require_unchanged()
        reporter.end()

    return Order(
        inputs=_checkpoint_inputs(got),
        make=make,
        bytes_per_rank=lambda _: conversion.bytes_per_rank,
        versions={"converter": CONVERTER_REVISION},
        label=got.label,
    )


def _checkpoint_inputs(got: Acquired) -> KeyInputs:
    layout = got.conversion.layout
    return KeyInputs(
        kind=got.conversion.kind,
        source_sha256=got.sha256,
        dtype=layout.dtype,
        converter_revision=CONVERTER_REVISION,
        quantization=layout.quantization,
        kv_cache=layout.kv_cache,
        calibration_digest=got.conversion.digest_calibration(got.amax),
        tensor_parallel=layout.tensor_parallel,
        pipeline_parallel=layout.pipeline_parallel,
        pad_intermediate=layout.intermediate_padding,
        embedding_sharding_dim=layout.embedding_sharding_dim,
    )


def _copy_tokenizer(got: Acquired, work: Path) -> None:
    folder = work / "tokenizer"
    with os_errors(folder):
        folder.mkdir()
    for name in got.tokenizer:
        with os_errors(got.folder / name):
            data = (got.folder / name).read_bytes()
        write_durably(folder / name, data)
    sync_directory(folder)
    sync_directory(work)


@dataclass(frozen=True, slots=True)
class _Limits:
    """How a run of the compiler is bounded and watched."""

    store: Path
    time_s: float | None
    on_progress: Callable[[Progress], None] | None


@dataclass(frozen=True, slots=True)
class _Compiler:
    """`trtllm-build` on this machine, and what it is asked for."""

    spec: BuildSpec
    gpu: Gpu
    versions: Versions

    @classmethod
    def here(cls, spec: BuildSpec) -> _Compiler:
        """What this machine has.

        Raises:
            Unsupported: no GPU, or no TensorRT-LLM.
        """
        return cls(spec, detect_gpus(), detect_versions())

    def require(self, document: Mapping[str, Any]) -> None:
        """Nothing, if an engine of such a checkpoint can be built here."""
        self._inputs(document)

    def warnings(self, got: Acquired) -> tuple[str, ...]:
        """About options that will not do what one may expect."""
        model = parse_compiler_model(got.conversion.documents["config.json"], str(got.folder))
        return decide_options(self.spec, model, self.gpu).warnings

    def order(
        self, checkpoint: KeyInputs, got: Acquired, ranks: Callable[[], Path], limits: _Limits
    ) -> Order:
        """The engine of a checkpoint, which is made only if the engine has to be."""
        inputs = replace(
            checkpoint,
            kind=Kind.ENGINE,
            engine=self._inputs(got.conversion.documents["config.json"]),
        )

        def make(work: Path) -> None:
            folder = ranks()
            _copy_tokenizer(got, work)
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
            got.require_unchanged()

        def sizes(work: Path) -> tuple[int, ...]:
            world = got.conversion.layout.world
            with os_errors(work):
                return tuple((work / f"rank{i}.engine").stat().st_size for i in range(world))

        return Order(
            inputs=inputs,
            make=make,
            bytes_per_rank=sizes,
            versions={
                "converter": CONVERTER_REVISION,
                "tensorrt_llm": self.versions.tensorrt_llm,
                "tensorrt": self.versions.tensorrt,
            },
            label=got.label,
            checkpoint_key=checkpoint.key,
        )

    def _inputs(self, document: Mapping[str, Any]) -> EngineInputs:
        return decide_engine_inputs(document, self.spec, self.gpu, self.versions)
