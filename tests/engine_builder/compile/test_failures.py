"""From exit status and log to an error: one row per sign, in the words of the real thing."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmjp_builder.compile.failures import CompilerExit, classify_failure
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

LOG = Path("/logs/k.log")
NOTHING_BUILT = "AssertionError: Engine building failed, please check the error log."


def make_exit(
    status: int, *lines: str, timed_out: bool = False, oom: int | None = None
) -> CompilerExit:
    return CompilerExit(status=status, tail=lines, seconds=1.0, timed_out=timed_out, oom_kills=oom)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("[TRT] [E] 2: [virtualMemoryBuffer.cpp::resizePhysical::140] Error Code 2: OutOfMemory",
         NotEnoughGpuMemory),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB.",
         NotEnoughGpuMemory),
        ("[TRT] [E] Cuda Error in allocate: 2 (out of memory)", NotEnoughGpuMemory),
        ("RuntimeError: CUDA driver error: out of memory", NotEnoughGpuMemory),
        ("terminate called after throwing an instance of 'std::bad_alloc'", NotEnoughHostMemory),
        ("MemoryError", NotEnoughHostMemory),
        ("OSError: [Errno 12] Cannot allocate memory", NotEnoughHostMemory),
        ("RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.",
         NotEnoughHostMemory),
        ("BrokenProcessPool: A process in the process pool was terminated abruptly while the",
         NotEnoughHostMemory),
        ("OSError: [Errno 28] No space left on device: 'engine/rank0.engine'", NotEnoughDisk),
        ("OSError: [Errno 122] Disk quota exceeded", NotEnoughDisk),
        ("PermissionError: [Errno 13] Permission denied: 'engine'", AccessDenied),
        ("OSError: [Errno 30] Read-only file system", AccessDenied),
        ("[E] API Usage Error (Target GPU SM 120 is not supported by this TensorRT release.)",
         UnsupportedGpu),
        ("CUDA error: no kernel image is available for execution on the device", UnsupportedGpu),
        ("RuntimeError: No CUDA GPUs are available", GpuMissing),
        ("RuntimeError: Found no NVIDIA driver on your system.", GpuMissing),
        ("Error 35: CUDA driver version is insufficient for CUDA runtime version", VersionMismatch),
        ("ImportError: libnvinfer.so.10: cannot open shared object file: No such file or directory",
         VersionMismatch),
        ("This may be caused by an incompatibility between PyTorch and TensorRT-LLM.",
         VersionMismatch),
        ("RuntimeError: Required but not provided tensors:{'lm_head.weight'}", CheckpointRejected),
        ("RuntimeError: Encounter error 'bad shape' for parameter 'lm_head.weight'",
         CheckpointRejected),
        ("TypeError: Mapping.__init__() got an unexpected keyword argument 'x'",
         CheckpointRejected),
        ("trtllm-build: error: unrecognized arguments: --frobnicate", InvalidSpec),
    ],
)  # fmt: skip
def test_signs_in_the_log(line: str, kind: type[BuilderError]) -> None:
    error = classify_failure(make_exit(1, "before", line, NOTHING_BUILT), LOG)
    assert type(error) is kind
    assert line[:40] in str(error)
    assert str(LOG) in str(error)


@pytest.mark.parametrize(
    ("status", "oom", "kind"),
    [
        (-signal.SIGKILL, None, NotEnoughHostMemory),
        (-signal.SIGKILL, 1, NotEnoughHostMemory),
        (-signal.SIGKILL, 0, CompileKilled),
        (-signal.SIGTERM, None, CompileKilled),
        (-signal.SIGINT, None, CompileKilled),
        (-signal.SIGHUP, None, CompileKilled),
        (-signal.SIGSEGV, None, CompileFailed),
        (-signal.SIGABRT, None, CompileFailed),
        (-64, None, CompileKilled),
        (1, None, CompileFailed),
        (0, None, CompileFailed),
    ],
)
def test_signals_without_a_sign(status: int, oom: int | None, kind: type[BuilderError]) -> None:
    error = classify_failure(make_exit(status, "[TRT-LLM] [I] the last words", oom=oom), LOG)
    assert type(error) is kind


def test_a_crash_is_named_and_its_cause_comes_first() -> None:
    assert "SIGSEGV" in str(classify_failure(make_exit(-11, "x"), LOG))
    aborted = classify_failure(make_exit(-6, "  what():  std::bad_alloc"), LOG)
    assert type(aborted) is NotEnoughHostMemory


def test_warnings_about_tactics_say_nothing() -> None:
    lines = (
        "[TRT] [W] Tactic Device request: 157500MB. Device memory is insufficient to use tactic.",
        "[05/18/2024-18:57:48] [TRT] [W] UNSUPPORTED_STATESkipping tactic 9: CUDA out of memory",
        "ValueError: something else",
    )
    error = classify_failure(make_exit(1, *lines), LOG)
    assert type(error) is CompileFailed
    assert "ValueError: something else" in str(error)


def test_the_cause_counts_and_not_what_it_led_to() -> None:
    error = classify_failure(
        make_exit(1, "BrokenProcessPool: A process in the process pool was terminated abruptly",
               "OSError: [Errno 28] No space left on device"), LOG)  # fmt: skip
    assert type(error) is NotEnoughDisk


def test_source_lines_of_a_traceback_say_nothing() -> None:
    lines = (
        "Traceback (most recent call last):",
        '  File "/x/modeling_utils.py", line 773, in load',
        '    raise RuntimeError(f"Required but not provided tensors:{names}")',
        "KeyError: 'CUDA'",
    )
    assert type(classify_failure(make_exit(1, *lines), LOG)) is CompileFailed
    error = classify_failure(
        make_exit(1, *lines[:3], "RuntimeError: Required but not provided tensors:x"), LOG
    )
    assert "tensors:x" in str(error)


def test_our_own_time_limit_is_no_kill_for_memory() -> None:
    error = classify_failure(make_exit(-9, "busy", timed_out=True), LOG, time_limit_s=21600)
    assert type(error) is CompileTimedOut
    assert "21600 s" in str(error)
    assert error.retryable


def test_the_last_lines_of_the_unknown_are_told() -> None:
    error = classify_failure(make_exit(1, "a", "", "b", "c", "d"), LOG)
    assert "its last lines: b | c | d" in str(error)
    assert "it printed nothing" in str(classify_failure(make_exit(1), LOG))


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    [
        (NotEnoughGpuMemory, 4),
        (NotEnoughHostMemory, 4),
        (GpuMissing, 6),
        (UnsupportedGpu, 6),
        (VersionMismatch, 6),
        (CheckpointRejected, 3),
        (CompileFailed, 1),
    ],
)
def test_exit_codes(kind: type[BuilderError], exit_code: int) -> None:
    assert kind.exit_code == exit_code
    assert not kind.retryable


@given(
    st.integers(-70, 255),
    st.lists(st.text(max_size=400), max_size=20),
    st.one_of(st.none(), st.integers(0, 3)),
)
def test_whatever_it_printed_the_message_is_one_short_line(
    status: int, lines: list[str], oom: int | None
) -> None:
    error = classify_failure(make_exit(status, *lines, oom=oom), LOG)
    assert isinstance(error, BuilderError)
    assert len(str(error).splitlines()) == 1
    assert len(str(error)) < 4096
