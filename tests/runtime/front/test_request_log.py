"""One line a request, and never a text."""

from __future__ import annotations

import io
import json
import logging
from typing import Any, get_args

import pytest

from llmjp_runtime.executor.protocol import FinishReason
from llmjp_runtime.front.metrics import ReplyEnd, ReplyTimes
from llmjp_runtime.front.request import Code
from llmjp_runtime.front.request_log import (
    LINE_START,
    RequestLog,
    RequestName,
    choose_level,
    format_line,
)
from llmjp_runtime.settings import RequestLogLevel
from llmjp_runtime.text.tokenizer import TextTokenizer
from tests.runtime.front.service_bench import REPLY, Bench

DONE = ReplyEnd(finish_reason=FinishReason.STOP, num_prompt=9, num_generated=4)
REFUSED = ReplyEnd(code=Code.INVALID_ARGUMENT)
BROKEN = ReplyEnd(code=Code.INTERNAL)


def read_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    lines = capsys.readouterr().err.splitlines()
    return [json.loads(line) for line in lines if line.startswith(LINE_START)]


def test_a_line_has_what_happened_and_when() -> None:
    times = ReplyTimes(arrived_s=10.0, started_s=10.25, first_s=10.5)
    line = format_line(RequestName("mine", "ab" * 16), times, DONE, 12.0)
    assert line.startswith(LINE_START)
    assert json.loads(line) == {
        "event": "request",
        "level": "info",
        "id": "mine",
        "trace_id": "ab" * 16,
        "model": "llmjp",
        "prompt_tokens": 9,
        "generated_tokens": 4,
        "queue_ms": 250.0,
        "first_token_ms": 500.0,
        "duration_ms": 2000.0,
        "finish_reason": "stop",
        "error": None,
    }


def test_no_id_makes_two_lines_or_a_long_one() -> None:
    line = format_line(RequestName("a\n\u2028" + "日" * 1000), ReplyTimes(), DONE, 0.0)
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert len(json.loads(line)["id"]) == 128


@pytest.mark.parametrize("code", [None, *Code])
def test_only_what_is_our_fault_is_an_error(code: Code | None) -> None:
    expected = {None: logging.INFO, Code.INTERNAL: logging.ERROR}.get(code, logging.WARNING)
    assert choose_level(code) == expected


@pytest.mark.parametrize("level", get_args(RequestLogLevel))
def test_levels(level: RequestLogLevel, capsys: pytest.CaptureFixture[str]) -> None:
    log = RequestLog(level, 1.0)
    for end in (DONE, REFUSED, BROKEN):
        log.write(RequestName(), ReplyTimes(), end)
    found = [line["level"] for line in read_lines(capsys)]
    everything = ["info", "warning", "error"]
    assert found == (everything[everything.index(level) :] if level != "off" else [])


def test_a_sample_leaves_no_error_of_ours_out(capsys: pytest.CaptureFixture[str]) -> None:
    log = RequestLog("info", 0.0)
    for end in (DONE, REFUSED, BROKEN):
        log.write(RequestName(), ReplyTimes(), end)
    assert [line["error"] for line in read_lines(capsys)] == ["internal"]


def test_a_log_that_nobody_reads_stops_no_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed)
    RequestLog("info", 1.0).write(RequestName(), ReplyTimes(), DONE)


def test_every_request_has_its_line_and_no_text(
    tokenizer: TextTokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tokenizer)
    secret = "ひみつのことば"
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    bench.ask("whole", text_input=secret, parameters={"Traceparent": parent})
    bench.reply("r1", REPLY)
    bench.ask("bounds", input_ids=[9] * 64)
    bench.ask("read", messages=json.dumps([{"role": secret, "content": secret}]))
    bench.ask("named", text_input=secret, parameters={secret: 1})
    bench.ask("ready", ready=True)
    bench.service.drain()
    assert bench.ask("ready", ready=True).error is not None
    bench.service.close()
    output = capsys.readouterr().err
    lines = [json.loads(line) for line in output.splitlines() if line.startswith(LINE_START)]
    ends = {line["id"]: line["finish_reason"] or line["error"] for line in lines}
    refused = "invalid_argument"
    assert ends == {"whole": "stop", "bounds": refused, "read": refused, "named": refused}
    assert len(lines) == 4
    traces = {line["id"]: line["trace_id"] for line in lines}
    assert traces == {**dict.fromkeys(ends), "whole": "0af7651916cd43dd8448eb211c80319c"}
    for text in (secret, REPLY):
        assert text not in output
        assert json.dumps(text)[1:-1] not in output
