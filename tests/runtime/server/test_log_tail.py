"""What a server prints, and what is read from it."""

from __future__ import annotations

import os

import pytest

from llmjp_runtime.errors import ArtefactInvalid, NotEnoughMemory, RuntimeFailure
from llmjp_runtime.front.metrics import ReplyEnd, ReplyTimes
from llmjp_runtime.front.request_log import RequestName, format_line
from llmjp_runtime.server.log_tail import KEPT_LINES, LogTail, find_cause
from llmjp_runtime.text.errors import UnusableTokenizer

IN_TRITON = (
    "E1123 1 model_lifecycle.cc:642] \"failed to load 'llmjp' version 1: Internal: "
    "ArtefactInvalid: /a/rank1.safetensors: is damaged: incomplete metadata"
    '\\n\\nAt:\\n  /x/checkpoint.py(209): open_tensors\\n"'
)


@pytest.mark.parametrize(
    ("log", "reason", "error"),
    [
        ("", "it printed nothing", None),
        ("one\n\ntwo\n", "two", None),
        ('I1\nE1123 17:36:11.2 1 server.cc:241] "port taken"\nI2\n', "port taken", None),
        ('x\nValueError: bad checkpoint\nE1123 1 a.cc:1] "later"\n', "bad checkpoint", None),
        ('E1 a.cc:1] "CudaDriverHelper has not been initialized."\n', "it printed nothing", None),
        ("x\nSignal (6) received.\n 0# 0x5 in a\n24# 0x7 in libc.so.6\n", "Signal (6)", None),
        (IN_TRITON, "/a/rank1.safetensors: is damaged: incomplete metadata", ArtefactInvalid),
        (f"{IN_TRITON}\nerror: creating server", "/a/rank1.safetensors: is", ArtefactInvalid),
        ("Internal: UnusableTokenizer: no vocabulary", "no vocabulary", UnusableTokenizer),
        ("OutOfMemoryError: CUDA out of memory.", "CUDA out of memory.", NotEnoughMemory),
        ("[TensorRT-LLM][ERROR] cudaMalloc: out of memory", "[TensorRT-LLM]", NotEnoughMemory),
    ],
)
def test_the_cause_is_picked_from_the_log(
    log: str, reason: str, error: type[RuntimeFailure] | None
) -> None:
    cause = find_cause(log)
    assert cause.text.startswith(reason)
    assert cause.error is error


def test_output_is_passed_on_and_its_end_kept(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"{n}行目\n" for n in range(KEPT_LINES + 5)]
    reader, writer = os.pipe()
    tail = LogTail(os.fdopen(reader, "rb"))
    with os.fdopen(writer, "wb") as pipe:
        pipe.write("".join(lines).encode() + b"\xff cut")
    tail.finish(10)
    assert capsys.readouterr().err == "".join(lines) + "\ufffd cut"
    assert tail.text == "".join(lines[-KEPT_LINES + 1 :]) + "\ufffd cut"
    tail.clear()
    assert tail.text == ""


def test_requests_do_not_crowd_out_what_explains_a_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reader, writer = os.pipe()
    tail = LogTail(os.fdopen(reader, "rb"))
    line = format_line(RequestName("a"), ReplyTimes(), ReplyEnd(), 0.0) + "\n"
    with os.fdopen(writer, "w") as pipe:
        pipe.write("out of memory\n" + line * KEPT_LINES)
    tail.finish(10)
    assert tail.text == "out of memory\n"
    assert capsys.readouterr().err.count(line) == KEPT_LINES
