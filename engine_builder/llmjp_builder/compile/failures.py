"""Why a run of `trtllm-build` failed, from its exit status and the end of its log. Pure.

The patterns are words of CUDA, TensorRT, Python and TensorRT-LLM in public threads and sources;
none of these failures has been provoked on a GPU for this project. What matches none of them is
reported with its last lines, never guessed.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import (
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
    NotPermitted,
    UnsupportedGpu,
    VersionMismatch,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LAST_LINES = 3
_MAX_LINE = 300
"""Characters of a quoted line; the whole of it is in the log."""

_CHATTER = re.compile(
    r"\[(?:TRT|TRT-LLM|TensorRT-LLM)\]\s*\[(?:I|W|V|INFO|WARNING|VERBOSE|DEBUG)\]"
)
"""Information and warnings. TensorRT warns of every tactic that needs more GPU memory than there is
and then takes another one: such a line says nothing about the failure."""

_TRACEBACK_FRAME = re.compile(r'\s*File ".*", line \d+')


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the process ended."""

    status: int
    """Exit status; minus the signal's number if one ended it."""
    tail: Sequence[str]
    """The last lines of its output, oldest first."""
    seconds: float
    timed_out: bool = False
    """Whether we ended it, because its time was up."""
    oom_kills: int | None = None
    """Processes of this container that the kernel killed for memory meanwhile; None if unknown."""


@dataclass(frozen=True, slots=True)
class _Symptom:
    pattern: re.Pattern[str]
    error: type[BuilderError]
    says: str
    """What is wrong and what to do."""


def _symptom(pattern: str, error: type[BuilderError], says: str) -> _Symptom:
    return _Symptom(re.compile(pattern), error, says)


_GPU_MEMORY = (
    "the GPU's memory does not suffice; use a larger tensor_parallel, a smaller max_batch_size or "
    "max_num_tokens, or a GPU that nothing else uses"
)
_HOST_MEMORY = "the host's memory does not suffice; give the build more, or it fewer GPUs at once"
_REJECTED = "TensorRT-LLM refuses the checkpoint"

_SYMPTOMS = (
    _symptom(
        r"No space left on device|Disk quota exceeded|\[Errno (?:28|122)\]",
        NotEnoughDisk,
        "the disk is full; make room or choose another disk",
    ),
    _symptom(
        r"\[Errno (?:1|13|30)\]|Permission denied",
        NotPermitted,
        "the operating system denies access",
    ),
    _symptom(
        r"trtllm-build: error:",
        InvalidSpec,
        "this version of trtllm-build does not take these arguments",
    ),
    _symptom(
        r"Required but not provided tensors|Encounter error .* for parameter|"
        r"got an unexpected keyword argument",
        CheckpointRejected,
        _REJECTED,
    ),
    _symptom(
        r"no CUDA-capable device|No CUDA GPUs are available|Found no NVIDIA driver|"
        r"CUDA_ERROR_NO_DEVICE|NVML: (?:Driver Not Loaded|Unknown)",
        GpuMissing,
        "no GPU can be used",
    ),
    _symptom(
        r"SM \d+ is not supported|no kernel image is available|CUDA_ERROR_NO_BINARY_FOR_GPU|"
        r"[Uu]nsupported (?:SM|GPU|compute capability)|not supported on this (?:GPU|device)",
        UnsupportedGpu,
        "this GPU is not supported by this TensorRT",
    ),
    _symptom(
        r"driver version is insufficient|CUDA_ERROR_SYSTEM_DRIVER_MISMATCH|"
        r"version mismatch|incompatib(?:le|ility) (?:with|between)|undefined symbol|"
        r"cannot open shared object file|Version tag does not match|"
        r"\(expecting library version",
        VersionMismatch,
        "TensorRT-LLM, TensorRT and the driver do not fit each other; use one released image",
    ),
    _symptom(
        r"CUDA out of memory|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|"
        r"OutOfMemoryError|Error Code \d+: ?Out ?Of ?Memory|[Cc][Uu][Dd][Aa] .*out of memory",
        NotEnoughGpuMemory,
        _GPU_MEMORY,
    ),
    _symptom(
        r"std::bad_alloc|^MemoryError|Cannot allocate memory|\[Errno 12\]|"
        r"DefaultCPUAllocator: can't allocate|_ArrayMemoryError|"
        r"process pool was terminated abruptly|BrokenProcessPool",
        NotEnoughHostMemory,
        _HOST_MEMORY,
    ),
)
"""The first that any line matches decides: causes stand before what they lead to."""

_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}


def classified(ending: Ending, log: Path, *, time_limit_s: float | None = None) -> BuilderError:
    """The error that a failed run stands for; its message quotes the decisive line.

    Args:
        ending: how it ended; a status of 0 is a failure too, if the engines are not there.
        log: where the whole output is, for the message.
        time_limit_s: what it was given.
    """
    if ending.timed_out:
        return CompileTimedOut(
            f"trtllm-build was still busy after {time_limit_s:g} s and was ended; allow more time; "
            f"{_last_lines(ending)}; log: {log}"
        )
    if ending.status == -signal.SIGKILL and ending.oom_kills != 0:
        return NotEnoughHostMemory(
            f"trtllm-build was killed by the kernel: {_HOST_MEMORY}; log: {log}"
        )
    if (found := _first_symptom(ending.tail)) is not None:
        symptom, line = found
        return symptom.error(f"trtllm-build: {symptom.says}: {_quoted(line)}; log: {log}")
    if ending.status < 0:
        return _signalled(ending, log)
    return CompileFailed(
        f"trtllm-build failed with exit status {ending.status}; {_last_lines(ending)}; log: {log}"
    )


def _signalled(ending: Ending, log: Path) -> BuilderError:
    name = _signal_name(-ending.status)
    if -ending.status in _CRASHES:
        return CompileFailed(f"trtllm-build crashed ({name}); {_last_lines(ending)}; log: {log}")
    return CompileKilled(f"trtllm-build was ended from outside ({name}); log: {log}")


def _first_symptom(tail: Sequence[str]) -> tuple[_Symptom, str] | None:
    lines = [line for line in _without_source(tail) if not _CHATTER.search(line)]
    for symptom in _SYMPTOMS:
        for line in reversed(lines):
            if symptom.pattern.search(line):
                return symptom, line
    return None


def _without_source(tail: Sequence[str]) -> list[str]:
    """The lines without the source lines that tracebacks quote: they hold words of any error."""
    return [
        line
        for before, line in zip(("", *tail), tail, strict=False)
        if not _TRACEBACK_FRAME.match(before)
    ]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_lines(ending: Ending) -> str:
    lines = [_quoted(line) for line in ending.tail if line.strip()][-_LAST_LINES:]
    return f"its last lines: {' | '.join(lines)}" if lines else "it printed nothing"


def _quoted(line: str) -> str:
    text = line.strip()
    return text if len(text) <= _MAX_LINE else f"{text[:_MAX_LINE]}..."
