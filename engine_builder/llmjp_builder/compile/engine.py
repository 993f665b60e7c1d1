"""Compilation of a checkpoint: checks before, one run of `trtllm-build`, checks after."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.compile import timing_cache as caches
from llmjp_builder.compile.command_line import (
    ENGINE,
    INPUT_TIMING_CACHE,
    TIMING_CACHE,
    Workers,
    decide_workers,
    render_command,
)
from llmjp_builder.compile.compile_progress import CompileProgress
from llmjp_builder.compile.engine_dir import check_engines, list_missing_engines
from llmjp_builder.compile.failures import classify_failure
from llmjp_builder.compile.gpu import read_available_memory
from llmjp_builder.compile.model import CompilerModel, parse_compiler_model
from llmjp_builder.compile.options import CompileOptions, decide_options
from llmjp_builder.compile.process import run_process
from llmjp_builder.compile.versions import find_compiler
from llmjp_builder.contracts.errors import NotEnoughGpuMemory
from llmjp_builder.store.files import (
    fresh_folder,
    get_regular_file_size,
    os_errors,
    read_json_object,
    require_free_space,
    sync_directory,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmjp_builder.compile.failures import CompilerExit
    from llmjp_builder.compile.gpu import Gpu
    from llmjp_builder.compile.versions import Versions
    from llmjp_builder.contracts.spec import BuildSpec, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineResult:
    """The engines that were built."""

    files: tuple[str, ...]
    """Names relative to the folder, sorted; durable."""
    bytes_per_rank: tuple[int, ...]
    """Size of each rank's engine."""
    options: CompileOptions
    seconds: float
    """Run time of `trtllm-build`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _CompileJob:
    """A compilation that passed all checks; nothing is written yet."""

    checkpoint: Path
    model: CompilerModel
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
    """Compile the checkpoint's ranks into the folder `out`: config.json and `rank{N}.engine`.

    Files appear in `out` only once all of them are checked; they are durable on return. During the
    run a folder beside it (`<out>.compile`, on the same disk) holds what is being written; it is
    removed at the end. An exception from `on_progress` stops the run and all its processes.

    Args:
        checkpoint: a folder with config.json and `rank{N}.safetensors`.
        out: an existing folder without engines.
        spec: limits and options.
        gpu: detected on this machine.
        versions: detected for this interpreter.
        timing_caches: folder where TensorRT's timing caches are kept.
        log: file for the output of `trtllm-build`, overwritten; error messages name it.
        on_progress: called about once a second.
        time_limit_s: None means no limit.

    Raises:
        BuilderError: the options are refused, there is not enough room, or the run failed
            (see `failures`).
    """
    model = parse_compiler_model(read_json_object(checkpoint / "config.json"), str(checkpoint))
    options = decide_options(spec, model, gpu)
    options.require_accepted()
    job = _CompileJob(
        checkpoint=checkpoint,
        model=model,
        options=options,
        workers=_decide_workers(checkpoint, out, model, gpu),
        program=find_compiler(),
        log=log,
        kept_cache=caches.locate_timing_cache(timing_caches, gpu, versions),
        time_limit_s=time_limit_s,
    )
    with fresh_folder(out.with_name(f"{out.name}.compile")) as work:
        progress = CompileProgress(model.world, on_progress, job.workers.reason)
        result = _run_compiler(job, work, progress)
        sizes = check_engines(work / ENGINE, model, versions, options)
        files = _move_files(work / ENGINE, out)
    progress.finish()
    return EngineResult(
        files=files, bytes_per_rank=sizes, options=options, seconds=round(result.seconds, 1)
    )


def _decide_workers(checkpoint: Path, out: Path, model: CompilerModel, gpu: Gpu) -> Workers:
    """Decide how many ranks to build at once.

    Raises:
        MissingFile: a rank's file is missing.
        NotEnoughGpuMemory: a rank's weights do not fit on a GPU.
        NotEnoughDisk: the engines do not fit on the disk.
    """
    sizes = [
        get_regular_file_size(checkpoint / f"rank{rank}.safetensors") for rank in range(model.world)
    ]
    if max(sizes) >= gpu.memory_bytes:
        raise NotEnoughGpuMemory(
            f"a rank's weights take {max(sizes):,} bytes, {gpu.product} has {gpu.memory_bytes:,}; "
            "use a larger tensor_parallel or pipeline_parallel, or quantization fp8"
        )
    require_free_space(out, sum(sizes))
    return decide_workers(
        world=model.world,
        gpus=gpu.count,
        rank_bytes=max(sizes),
        memory_available=read_available_memory(),
    )


def _run_compiler(job: _CompileJob, work: Path, progress: CompileProgress) -> CompilerExit:
    """Run `trtllm-build`. Its timing cache is kept even if the run fails later.

    Raises:
        BuilderError: it failed; exit status 0 with a missing engine counts as a failure.
    """
    caches.restore_timing_cache(job.kept_cache, work / TIMING_CACHE)
    caches.restore_timing_cache(job.kept_cache, work / INPUT_TIMING_CACHE)
    arguments = render_command(
        job.program, job.options, checkpoint=job.checkpoint, num_workers=job.workers.count
    )
    with os_errors(job.log.parent):
        job.log.parent.mkdir(parents=True, exist_ok=True)
    try:
        result = run_process(
            arguments,
            cwd=work,
            log=job.log,
            time_limit_s=job.time_limit_s,
            on_line=progress.read_line,
            on_tick=progress.tick,
        )
    finally:
        if progress.timing_cache_written:
            caches.save_timing_cache(work / TIMING_CACHE, job.kept_cache)
    if result.timed_out or result.status or list_missing_engines(work / ENGINE, job.model.world):
        raise classify_failure(result, job.log, time_limit_s=job.time_limit_s)
    return result


def _move_files(source: Path, out: Path) -> tuple[str, ...]:
    """Make every file durable and move it, config.json last; return the names."""
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
