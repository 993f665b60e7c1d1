"""Classification of failed runs of `trtllm-build` by exit status and the end of the log. Pure.

The patterns come from messages of CUDA, TensorRT, Python and TensorRT-LLM in public threads and
sources; none of these failures has been provoked on a GPU for this project. A failure that matches
none of them is reported with its last lines, never guessed.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import (
    AccessDenied,
    BuilderError,
    CheckpointRejected,
    CompileFailed,
    CompileKilled,
    CompileTimedOut,
    GpuMissing,
    InvalidSpec,
    NotEnoughDisk,
    NotEnoughGpuMemory,
    NotEnoughHostMemory,
    UnsupportedGpu,
    VersionMismatch,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LAST_LINES = 3
_MAX_LINE = 300
"""Characters of a quoted line; the log has all of it."""

_CHATTER = re.compile(
    r"\[(?:TRT|TRT-LLM|TensorRT-LLM)\]\s*\[(?:I|W|V|INFO|WARNING|VERBOSE|DEBUG)\]"
)
"""Information and warnings. TensorRT warns of every tactic that needs more GPU memory than there is
and then takes another one, so such a line does not explain a failure."""

_TRACEBACK_FRAME = re.compile(r'\s*File ".*", line \d+')


@dataclass(frozen=True, slots=True, kw_only=True)
class CompilerExit:
    """The end of a run of `trtllm-build`: status, last output and circumstances."""

    status: int
    """Exit status, or minus the number of the signal that ended it."""
    tail: Sequence[str]
    """The last lines of its output, oldest first."""
    seconds: float
    timed_out: bool = False
    """True where we ended it at its time limit."""
    oom_kills: int | None = None
    """Processes of this container that the kernel killed for memory during the run; None if
    unknown."""


@dataclass(frozen=True, slots=True)
class _Symptom:
    pattern: re.Pattern[str]
    error: type[BuilderError]
    says: str
    """The problem and its remedy."""


def _make_symptom(pattern: str, error: type[BuilderError], says: str) -> _Symptom:
    return _Symptom(re.compile(pattern), error, says)


_GPU_MEMORY = (
    "not enough GPU memory; use a larger tensor_parallel, a smaller max_batch_size or "
    "max_num_tokens, or a GPU that nothing else uses"
)
_HOST_MEMORY = "not enough host memory; give the build more memory, or fewer GPUs"
_REJECTED = "TensorRT-LLM rejects the checkpoint"

_SYMPTOMS = (
    _make_symptom(
        r"No space left on device|Disk quota exceeded|\[Errno (?:28|122)\]",
        NotEnoughDisk,
        "the disk is full; make room or choose another disk",
    ),
    _make_symptom(
        r"\[Errno (?:1|13|30)\]|Permission denied",
        AccessDenied,
        "the operating system denies access",
    ),
    _make_symptom(
        r"trtllm-build: error:",
        InvalidSpec,
        "this version of trtllm-build does not accept these arguments",
    ),
    _make_symptom(
        r"Required but not provided tensors|Encounter error .* for parameter|"
        r"got an unexpected keyword argument",
        CheckpointRejected,
        _REJECTED,
    ),
    _make_symptom(
        r"no CUDA-capable device|No CUDA GPUs are available|Found no NVIDIA driver|"
        r"CUDA_ERROR_NO_DEVICE|NVML: (?:Driver Not Loaded|Unknown)",
        GpuMissing,
        "no usable GPU",
    ),
    _make_symptom(
        r"SM \d+ is not supported|no kernel image is available|CUDA_ERROR_NO_BINARY_FOR_GPU|"
        r"[Uu]nsupported (?:SM|GPU|compute capability)|not supported on this (?:GPU|device)",
        UnsupportedGpu,
        "this version of TensorRT does not support this GPU",
    ),
    _make_symptom(
        r"driver version is insufficient|CUDA_ERROR_SYSTEM_DRIVER_MISMATCH|"
        r"version mismatch|incompatib(?:le|ility) (?:with|between)|undefined symbol|"
        r"cannot open shared object file|Version tag does not match|"
        r"\(expecting library version",
        VersionMismatch,
        "TensorRT-LLM, TensorRT and the driver do not match; use one released image",
    ),
    _make_symptom(
        r"CUDA out of memory|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|"
        r"OutOfMemoryError|Error Code \d+: ?Out ?Of ?Memory|[Cc][Uu][Dd][Aa] .*out of memory",
        NotEnoughGpuMemory,
        _GPU_MEMORY,
    ),
    _make_symptom(
        r"std::bad_alloc|^MemoryError|Cannot allocate memory|\[Errno 12\]|"
        r"DefaultCPUAllocator: can't allocate|_ArrayMemoryError|"
        r"process pool was terminated abruptly|BrokenProcessPool",
        NotEnoughHostMemory,
        _HOST_MEMORY,
    ),
)
"""The first one that any line matches decides, so causes stand before their consequences."""

_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}


def classify_failure(
    result: CompilerExit, log: Path, *, time_limit_s: float | None = None
) -> BuilderError:
    """Return the error for a failed run; its message quotes the decisive line.

    Args:
        result: how it ended; a status of 0 is a failure too, if an engine is missing.
        log: where the whole output is, for the message.
        time_limit_s: the limit that it was given.
    """
    if result.timed_out:
        return CompileTimedOut(
            f"trtllm-build was stopped at its time limit, after {time_limit_s:g} s; raise it; "
            f"{_quote_last_lines(result)}; log: {log}"
        )
    if result.status == -signal.SIGKILL and result.oom_kills != 0:
        return NotEnoughHostMemory(
            f"trtllm-build was killed by the kernel: {_HOST_MEMORY}; log: {log}"
        )
    if (found := _find_symptom(result.tail)) is not None:
        symptom, line = found
        return symptom.error(f"trtllm-build: {symptom.says}: {_quote(line)}; log: {log}")
    if result.status < 0:
        return _classify_signal(result, log)
    ended = f"trtllm-build failed with exit status {result.status}"
    return CompileFailed(f"{ended}; {_quote_last_lines(result)}; log: {log}")


def _classify_signal(result: CompilerExit, log: Path) -> BuilderError:
    name = _name_signal(-result.status)
    if -result.status in _CRASHES:
        return CompileFailed(
            f"trtllm-build crashed ({name}); {_quote_last_lines(result)}; log: {log}"
        )
    return CompileKilled(f"trtllm-build was killed from outside ({name}); log: {log}")


def _find_symptom(tail: Sequence[str]) -> tuple[_Symptom, str] | None:
    lines = [line for line in _drop_source_lines(tail) if not _CHATTER.search(line)]
    for symptom in _SYMPTOMS:
        for line in reversed(lines):
            if symptom.pattern.search(line):
                return symptom, line
    return None


def _drop_source_lines(tail: Sequence[str]) -> list[str]:
    """Return the lines without the source code in tracebacks, which may name any error."""
    return [
        line
        for before, line in zip(("", *tail), tail, strict=False)
        if not _TRACEBACK_FRAME.match(before)
    ]


def _name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _quote_last_lines(result: CompilerExit) -> str:
    lines = [_quote(line) for line in result.tail if line.strip()][-_LAST_LINES:]
    return f"its last lines: {' | '.join(lines)}" if lines else "it printed nothing"


def _quote(line: str) -> str:
    text = line.strip()
    return text if len(text) <= _MAX_LINE else f"{text[:_MAX_LINE]}..."
