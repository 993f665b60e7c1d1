"""Ways to fail, by name: each in the words, and with the exit status, of the real thing."""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_NO_ENGINE = "Engine building failed, please check the error log."


def fail(name: str) -> None:
    """Fails like that; returns for the failures that show up later only."""
    FAILURES[name]()


def _tensorrt(*lines: str) -> Callable[[], None]:
    """TensorRT logs what is wrong and returns no engine."""

    def failure() -> None:
        for line in lines:
            print(line, flush=True)
        raise AssertionError(_NO_ENGINE)

    return failure


def _raised(error: Exception) -> Callable[[], None]:
    def failure() -> None:
        raise error

    return failure


def _signalled(number: int, text: str = "") -> Callable[[], None]:
    def failure() -> None:
        print(text, file=sys.stderr, flush=True)
        os.kill(os.getpid(), number)
        signal.pause()

    return failure


def _killed_for_memory() -> None:
    """The kernel's counter of this container rises, then the process dies."""
    if events := os.environ.get("LLMJP_STANDIN_MEMORY_EVENTS"):
        Path(events).write_text("oom 1\noom_kill 1\n")
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def _hang() -> None:
    while True:
        signal.pause()


def _later() -> None:
    """Shows up in what is written, or is not."""


FAILURES: dict[str, Callable[[], None]] = {
    "gpu_memory": _tensorrt(
        "[TRT] [W] Tactic Device request: 157500MB Available: 40339MB.",
        "[TRT] [W] Requested amount of GPU memory (24793579520 bytes) could not be allocated.",
        "[TRT] [E] [virtualMemoryBuffer.cpp::resizePhysical::140] Error Code 2: OutOfMemory "
        "(no further information)",
    ),
    "gpu_memory_of_torch": _raised(
        RuntimeError("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB")
    ),
    "host_memory": _signalled(
        signal.SIGABRT, "terminate called after throwing an instance of 'std::bad_alloc'"
    ),
    "host_memory_kill": _killed_for_memory,
    "killed": _signalled(signal.SIGKILL),
    "terminated": _signalled(signal.SIGTERM),
    "crash": _signalled(signal.SIGSEGV, "[TRT-LLM] [I] the last words"),
    "disk": _raised(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "engine/rank0.engine")),
    "permission": _raised(PermissionError(errno.EACCES, os.strerror(errno.EACCES), "engine")),
    "unsupported_gpu": _tensorrt(
        "[TRT] [E] IBuilder::buildSerializedNetwork: Error Code 9: API Usage Error "
        "(Target GPU SM 130 is not supported by this TensorRT release.)"
    ),
    "no_gpu": _raised(RuntimeError("No CUDA GPUs are available")),
    "driver": _raised(RuntimeError("CUDA driver version is insufficient for CUDA runtime version")),
    "unknown": _raised(RuntimeError("something that nobody has seen before")),
    "hang": _hang,
    "no_engine": _later,
    "no_key": _later,
    "other_layout": _later,
}
