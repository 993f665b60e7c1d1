"""An executor and a responder that do what a test tells them to."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmjp_runtime.executor.protocol import (
    ExecutorHealth,
    ExecutorLimits,
    Feature,
    FinishReason,
    GenerationRequest,
    TokenEvent,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmjp_runtime.front.request import RequestError
    from llmjp_runtime.front.response_stream import Outputs

TIMEOUT_S = 30.0
"""Nobody waits so long unless something is broken."""


class ScriptedExecutor:
    """Keeps every request until the test feeds it events."""

    def __init__(
        self,
        *,
        max_context: int = 64,
        vocab_size: int = 5000,
        max_batch_size: int = 4,
        features: frozenset[Feature] = frozenset(Feature),
    ) -> None:
        self.limits = ExecutorLimits(
            max_context=max_context, vocab_size=vocab_size, max_batch_size=max_batch_size
        )
        self.features = features
        self.failure: str | None = None
        self.requests: list[GenerationRequest] = []
        self.cancelled: list[str] = []
        self._sinks: dict[str, Callable[[TokenEvent], None]] = {}
        self._changed = threading.Condition()

    def submit(self, request: GenerationRequest, on_event: Callable[[TokenEvent], None], /) -> None:
        with self._changed:
            self.requests.append(request)
            self._sinks[request.request_id] = on_event
            self._changed.notify_all()

    def cancel(self, request_id: str, /) -> bool:
        with self._changed:
            running = request_id in self._sinks
            self.cancelled.append(request_id)
            self._changed.notify_all()
        if running:
            self.event(request_id, finish_reason=FinishReason.CANCELLED)
        return running

    def event(self, request_id: str, *ids: int, **fields: object) -> None:
        """Feed one event to a running request."""
        event = TokenEvent(token_ids=ids, **fields)  # type: ignore[arg-type]
        with self._changed:
            listener = self._sinks.get(request_id)
            if event.final:
                self._sinks.pop(request_id, None)
        if listener:
            listener(event)

    def wait_cancelled(self, request_id: str) -> None:
        self.wait_for(lambda: request_id in self.cancelled)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait for what this executor or the front model's threads bring about."""
        end = time.monotonic() + TIMEOUT_S
        with self._changed:
            while not condition():
                assert time.monotonic() < end
                self._changed.wait(0.002)

    def health(self) -> ExecutorHealth:
        return ExecutorHealth(
            heartbeat_age_s=0.0,
            num_active=len(self._sinks),
            num_waiting=0,
            num_steps=0,
            num_generated=1,
            error=self.failure,
        )

    def close(self) -> None:
        for request_id in list(self._sinks):
            self.cancel(request_id)


@dataclass
class RecordingResponder:
    """Keeps responses; can be slow, gone, or broken."""

    sent: list[tuple[Outputs, bool]] = field(default_factory=list)
    error: RequestError | None = None
    gone: bool = False
    gate: threading.Event | None = None
    """While set, `send` waits for it: a slow client."""
    broken: bool = False
    _ended: threading.Event = field(default_factory=threading.Event)
    _entered: threading.Event = field(default_factory=threading.Event)

    def send(self, outputs: Outputs, *, final: bool) -> None:
        self._entered.set()
        if self.gate:
            assert self.gate.wait(TIMEOUT_S)
        if self.broken:
            self._ended.set()
            raise RuntimeError("the client is gone")
        self.sent.append((outputs, final))
        if final:
            self._ended.set()

    def fail(self, error: RequestError) -> None:
        self.error = error
        self._ended.set()

    def is_cancelled(self) -> bool:
        return self.gone

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def wait(self) -> None:
        assert self._ended.wait(TIMEOUT_S), "no final response"

    def wait_sending(self) -> None:
        assert self._entered.wait(TIMEOUT_S), "no response"

    def text(self) -> str:
        return "".join(
            outputs["text_output"].item().decode() for outputs, _ in self.sent if outputs
        )

    def last(self, name: str) -> object:
        value = self.sent[-1][0][name].item()
        return value.decode() if isinstance(value, bytes) else value
