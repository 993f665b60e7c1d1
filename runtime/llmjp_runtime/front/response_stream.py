"""A request's way back: events arrive on the executor's thread, responses leave by a sender.

The executor's thread only appends; events that pile up while a sender is busy leave as one
response.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from llmjp_runtime.executor.protocol import FinishReason
from llmjp_runtime.front.metrics import ReplyEnd, ReplyTimes
from llmjp_runtime.front.request import Code, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from llmjp_runtime.executor.protocol import TokenEvent
    from llmjp_runtime.front.reply import ReplyAssembler, ReplyPart

    Outputs = dict[str, NDArray[np.generic]]
    """Output name to array, batch dimension included."""


class Responder(Protocol):
    """The way back to one client. `send` and `fail` block for a round trip."""

    def send(self, outputs: Outputs, *, final: bool) -> None:
        """Send one response; `final` ends the request."""
        ...

    def fail(self, error: RequestError) -> None:
        """Send the error and end the request."""
        ...

    def is_cancelled(self) -> bool:
        """Return whether the client is gone or has cancelled; a round trip, so ask seldom."""
        ...


@dataclass(frozen=True, slots=True)
class PromptSummary:
    """What responses say about their request's prompt."""

    num_tokens: int
    text: str = ""
    """Precedes an unstreamed reply."""
    warnings: tuple[str, ...] = ()
    """In the first response."""


@dataclass(frozen=True, slots=True)
class TopTokens:
    """How the likeliest tokens of each place are told."""

    count: int
    """Of each place, at least 1."""
    spell: Callable[[int], str]
    """Returns the text of an id."""

    def build_outputs(
        self, ids: Sequence[int], places: Sequence[Sequence[tuple[int, float]]]
    ) -> Outputs:
        """Return the texts of the ids, and what was likeliest at their places: [1, ids, count]."""
        shape = (1, len(places), -1) if places else (1, 0, self.count)
        likeliest = [each for place in places for each in place]
        texts = [self.spell(token).encode() for token, _ in likeliest]
        return {
            "output_tokens": _encode_strings([self.spell(token) for token in ids]).reshape(1, -1),
            "top_ids": np.array([token for token, _ in likeliest], np.int32).reshape(shape),
            "top_tokens": np.array(texts, np.object_).reshape(shape),
            "top_log_probs": np.array([v for _, v in likeliest], np.float32).reshape(shape),
        }


class ResponseStream:
    """One reply on its way to the client.

    Streamed, text leaves as it comes, at least `interval_s` apart; the first and the last response
    never wait. Otherwise there is one response at the end, which the prompt's text precedes.
    `on_stop` is called when the reply is over before the executor knows.
    """

    def __init__(
        self,
        *,
        key: str,
        responder: Responder,
        assembler: ReplyAssembler,
        prompt: PromptSummary,
        stream: bool,
        interval_s: float = 0.0,
        on_stop: Callable[[], object] = lambda: None,
        times: ReplyTimes | None = None,
        top: TopTokens | None = None,
    ) -> None:
        """Prepare; nothing is sent yet.

        `key` is the executor's id of the request.
        """
        self.key = key
        self.responder = responder
        self._assembler = assembler
        self._stream = stream
        self._interval_s = interval_s
        self._prompt = prompt
        self._warnings = prompt.warnings
        self._on_stop = on_stop
        self._top = top
        self.times = times or ReplyTimes()
        self.end: ReplyEnd | None = None
        """How the reply ended, once it is done."""
        self._num_output_tokens = 0
        self._num_counted = 0
        self._lock = threading.Lock()
        self._events: deque[TokenEvent] = deque()
        self._due_s: float | None = None
        self._last_sent_s = -math.inf
        self._reason: FinishReason | None = None
        self._unsent: list[ReplyPart] = []
        self.done = False
        """The last response has been sent; read by any thread, set by the sender."""

    def push(self, event: TokenEvent, now_s: float) -> float | None:
        """Keep one event (executor's thread); return when to send, None if that is due already."""
        with self._lock:
            self._events.append(event)
            self.times.note_tokens(event.num_generated, now_s)
            due = now_s if event.final else max(now_s, self._last_sent_s + self._interval_s)
            if self._due_s is not None and self._due_s <= due:
                return None
            self._due_s = due
        return due

    def expire(self, reason: FinishReason) -> None:
        """Set the finish reason to report when the executor cancels."""
        self._reason = reason

    def abandon(self) -> None:
        """Give up: no response can be sent any more, so nobody needs the rest of the reply."""
        self.end = self._build_end(FinishReason.CANCELLED)
        self.done = True
        self._on_stop()

    def take_gaps(self) -> list[float]:
        """Return the seconds between tokens since the last call, one less than tokens in all."""
        with self._lock:
            gaps, self.times.gaps = self.times.gaps, []
        return gaps

    def take_num_tokens(self) -> int:
        """Return how many tokens came since the last call."""
        with self._lock:
            before, self._num_counted = self._num_counted, self.times.num_tokens
            return self._num_counted - before

    def _build_end(self, reason: FinishReason | None, code: Code | None = None) -> ReplyEnd:
        return ReplyEnd(
            finish_reason=reason,
            code=code,
            num_prompt=self._prompt.num_tokens,
            num_generated=self._num_output_tokens,
        )

    def flush(self, now_s: float) -> None:
        """Send what has accumulated (its sender's thread)."""
        with self._lock:
            events = list(self._events)
            self._events.clear()
            self._due_s = None
            self._last_sent_s = now_s
        if not self.done and events:
            self._send_ready(events)

    def _send_ready(self, events: list[TokenEvent]) -> None:
        part = self._assembler.feed_all(events)
        self._unsent.append(part)
        self._num_output_tokens = part.num_output_tokens
        if part.finish_reason is not None:
            self.end = self._build_end(self._resolve_finish_reason(part.finish_reason))
        self.done = part.final
        finished = part.finish_reason is not None
        if finished or (self._stream and any(each.text for each in self._unsent)):
            outputs = self._build_outputs(part)
            self._unsent.clear()
            self.responder.send(outputs, final=finished)
        if part.error is not None:
            code = Code.UNAVAILABLE if part.elsewhere else Code.INTERNAL
            self.end = self._build_end(None, code)
            self.responder.fail(RequestError(code, part.error))
        if part.cancel:
            self._on_stop()

    def _build_outputs(self, last: ReplyPart) -> Outputs:
        parts = self._unsent
        text = "".join(part.text for part in parts)
        ids = [token for part in parts for token in part.output_ids]
        if not self._stream:
            text = self._prompt.text + text
        outputs: Outputs = {
            "text_output": _encode_string(text),
            "output_ids": np.array([ids], np.int32).reshape(1, -1),
        }
        if self._warnings:
            outputs["warnings"] = _encode_strings(self._warnings)
            self._warnings = ()
        log_probs = [value for part in parts for value in part.log_probs or ()]
        if any(part.log_probs is not None for part in parts):
            outputs["output_log_probs"] = np.array([[log_probs]], np.float32).reshape(1, 1, -1)
            outputs["cum_log_probs"] = np.array([[sum(log_probs)]], np.float32)
        if self._top is not None:
            outputs |= self._top.build_outputs(ids, [each for part in parts for each in part.top])
        if last.finish_reason is not None:
            outputs |= {
                "finish_reason": _encode_string(self._resolve_finish_reason(last.finish_reason)),
                "num_input_tokens": np.array([[self._prompt.num_tokens]], np.int32),
                "num_output_tokens": np.array([[last.num_output_tokens]], np.int32),
                "sequence_index": np.zeros((1, 1), np.int32),
                "batch_index": np.zeros((1, 1), np.int32),
            }
        return outputs

    def _resolve_finish_reason(self, reason: FinishReason) -> FinishReason:
        if reason is FinishReason.CANCELLED and self._reason is not None:
            return self._reason
        return reason


def _encode_string(text: str) -> NDArray[np.generic]:
    return _encode_strings((text,))


def _encode_strings(texts: Sequence[str]) -> NDArray[np.generic]:
    return np.array([[text.encode() for text in texts]], np.object_)
