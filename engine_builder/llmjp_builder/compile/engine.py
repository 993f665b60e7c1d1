"""Compiles a checkpoint: what is checked before, one run, what is checked after."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.compile import timing_cache as caches
from llmjp_builder.compile.command import (
    ENGINE,
    INPUT_TIMING_CACHE,
    TIMING_CACHE,
    Workers,
    command,
    workers,
)
from llmjp_builder.compile.engine_dir import check_engines, missing_engines
from llmjp_builder.compile.failures import classified
from llmjp_builder.compile.gpu import host_memory_available
from llmjp_builder.compile.model import EngineModel, engine_model
from llmjp_builder.compile.options import CompileOptions, compile_options
from llmjp_builder.compile.run import run
from llmjp_builder.compile.versions import compiler
from llmjp_builder.compile.watch import Watch
from llmjp_builder.contracts.errors import NotEnoughGpuMemory
from llmjp_builder.store.files import (
    fresh_folder,
    os_errors,
    read_json_object,
    regular_file_size,
    require_free,
    sync_directory,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmjp_builder.compile.failures import Ending
    from llmjp_builder.compile.gpu import Gpu
    from llmjp_builder.compile.versions import Versions
    from llmjp_builder.contracts.spec import BuildSpec, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineResult:
    """What was built."""

    files: tuple[str, ...]
    """Of the engine, relative to the folder, sorted; durable."""
    bytes_per_rank: tuple[int, ...]
    """Of the engines, by rank."""
    options: CompileOptions
    seconds: float
    """That `trtllm-build` took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A build that was found possible; nothing is written yet."""

    checkpoint: Path
    model: EngineModel
    options: CompileOptions
    workers: Workers
    program: Path
    log: Path
    kept_cache: Path
    time_limit_s: float | None


def compile_engine(
    checkpoint: Path,
    out: Path,
    *,
    spec: BuildSpec,
    gpu: Gpu,
    versions: Versions,
    timing_caches: Path,
    log: Path,
    on_progress: Callable[[Progress], None] | None = None,
    time_limit_s: float | None = None,
) -> EngineResult:
    """Compiles the checkpoint's ranks into the folder `out`: config.json and `rank{N}.engine`.

    Files appear in `out` only after all of them were checked; they are durable on return. While it
    runs, a folder beside it (`<out>.compile`, on the same disk) holds what is being written; it is
    removed in the end. An exception raised by `on_progress` ends the run and all its processes.

    Args:
        checkpoint: a folder with config.json and `rank{N}.safetensors`.
        out: an existing folder without engines.
        spec: limits and options.
        gpu: as detected on this machine.
        versions: as detected for this interpreter.
        timing_caches: folder where TensorRT's timing caches are kept.
        log: file for the output of `trtllm-build`, replaced; messages of errors name it.
        on_progress: called about once a second.
        time_limit_s: None for no limit.

    Raises:
        BuilderError: the options are refused, there is not enough room, or the run failed
            (`failures`).
    """
    model = engine_model(read_json_object(checkpoint / "config.json"), str(checkpoint))
    options = compile_options(spec, model, gpu)
    options.require_accepted()
    job = _Job(
        checkpoint=checkpoint,
        model=model,
        options=options,
        workers=_workers(checkpoint, out, model, gpu),
        program=compiler(),
        log=log,
        kept_cache=caches.timing_cache(timing_caches, gpu, versions),
        time_limit_s=time_limit_s,
    )
    with fresh_folder(out.with_name(f"{out.name}.compile")) as work:
        watch = Watch(model.world, on_progress, job.workers.reason)
        ending = _run(job, work, watch)
        sizes = check_engines(work / ENGINE, model, versions, options)
        files = _move(work / ENGINE, out)
    watch.end()
    return EngineResult(
        files=files, bytes_per_rank=sizes, options=options, seconds=round(ending.seconds, 1)
    )


def _workers(checkpoint: Path, out: Path, model: EngineModel, gpu: Gpu) -> Workers:
    """How many ranks are built at once; refuses what cannot fit at all.

    Raises:
        MissingFile: a rank is not there.
        NotEnoughGpuMemory, NotEnoughDisk: a rank is too large for a GPU, all are for the disk.
    """
    sizes = [
        regular_file_size(checkpoint / f"rank{rank}.safetensors") for rank in range(model.world)
    ]
    if max(sizes) >= gpu.memory_bytes:
        raise NotEnoughGpuMemory(
            f"a rank's weights take {max(sizes):,} bytes, {gpu.product} has {gpu.memory_bytes:,}: "
            "use a larger tensor_parallel or pipeline_parallel, or quantization fp8"
        )
    require_free(out, sum(sizes))
    return workers(
        world=model.world,
        gpus=gpu.count,
        rank_bytes=max(sizes),
        memory_available=host_memory_available(),
    )


def _run(job: _Job, work: Path, watch: Watch) -> Ending:
    """Runs `trtllm-build`; its timing cache is kept even of a run that failed later.

    Raises:
        BuilderError: it failed; an exit status of 0 is not believed where an engine is missing.
    """
    caches.take(job.kept_cache, work / TIMING_CACHE)
    caches.take(job.kept_cache, work / INPUT_TIMING_CACHE)
    arguments = command(
        job.program, job.options, checkpoint=job.checkpoint, num_workers=job.workers.count
    )
    with os_errors(job.log.parent):
        job.log.parent.mkdir(parents=True, exist_ok=True)
    try:
        ending = run(
            arguments,
            cwd=work,
            log=job.log,
            time_limit_s=job.time_limit_s,
            on_line=watch.line,
            on_tick=watch.tick,
        )
    finally:
        if watch.timing_cache_written:
            caches.keep(work / TIMING_CACHE, job.kept_cache)
    if ending.timed_out or ending.status or missing_engines(work / ENGINE, job.model.world):
        raise classified(ending, job.log, time_limit_s=job.time_limit_s)
    return ending


def _move(source: Path, out: Path) -> tuple[str, ...]:
    """Makes every file durable and moves it; config.json goes last."""
    names = [str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()]
    for name in sorted(names, key=lambda name: (name == "config.json", name)):
        with os_errors(out / name):
            descriptor = os.open(source / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).rename(out / name)
    sync_directory(out)
    return tuple(sorted(names))
