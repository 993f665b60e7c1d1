"""One line of JSON for each request that has ended or was refused. Never a text of the request."""

from __future__ import annotations

import json
import logging
import random
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmjp_runtime.front.repository import MODEL_NAME
from llmjp_runtime.front.request import Code

if TYPE_CHECKING:
    from llmjp_runtime.front.metrics import ReplyEnd, ReplyTimes
    from llmjp_runtime.settings import RequestLogLevel

LINE_START = '{"event": "request"'
"""How every line begins."""
MAX_ID_CHARACTERS = 128
"""Of the client's id, which may be anything."""

_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_OFF = logging.CRITICAL + 1


@dataclass(frozen=True, slots=True)
class RequestName:
    """What the log calls a request."""

    request_id: str = ""
    """The client's; may be empty."""
    trace_id: str | None = None
    """Of the trace that it belongs to."""


class RequestLog:
    """Writes the lines to stderr, each at once."""

    def __init__(self, level: RequestLogLevel, sample: float) -> None:
        """Set what is written: from which level on, and which part of that (0 to 1)."""
        self._level = _LEVELS.get(level, _OFF)
        self._sample = sample

    def write(self, name: RequestName, times: ReplyTimes, end: ReplyEnd) -> None:
        """Write a request's line, unless it is below the level or left out of the sample."""
        level = choose_level(end.code)
        # Our own errors are rare, and each of them is wanted.
        sampled = level == logging.ERROR or random.random() < self._sample
        if level >= self._level and sampled:
            line = format_line(name, times, end, time.monotonic())
            # If nobody reads stderr any more, replies must not stop for that.
            with suppress(OSError, ValueError):
                sys.stderr.write(line + "\n")
                sys.stderr.flush()


def choose_level(code: Code | None) -> int:
    """Return `info` for a reply, `warning` for a refusal, `error` for what is our fault (pure)."""
    if code is None:
        return logging.INFO
    return logging.ERROR if code is Code.INTERNAL else logging.WARNING


def format_line(name: RequestName, times: ReplyTimes, end: ReplyEnd, now_s: float) -> str:
    """Return a request's line: ASCII, so that no id breaks it (pure)."""

    def since_arrival(moment_s: float | None) -> float | None:
        return None if moment_s is None else round((moment_s - times.arrived_s) * 1e3, 1)

    entry: dict[str, Any] = {
        "event": "request",
        "level": logging.getLevelName(choose_level(end.code)).lower(),
        "id": name.request_id[:MAX_ID_CHARACTERS],
        "trace_id": name.trace_id,
        "model": MODEL_NAME,
        "prompt_tokens": end.num_prompt,
        "generated_tokens": end.num_generated,
        "queue_ms": since_arrival(times.started_s),
        "first_token_ms": since_arrival(times.first_s),
        "duration_ms": since_arrival(now_s),
        "finish_reason": end.finish_reason,
        "error": end.code,
    }
    return json.dumps(entry)
