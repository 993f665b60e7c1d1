"""Executors over an engine that generates through asyncio: a thread with the loop, and its calls.

The engines differ in how a request is opened and aborted, and in what their outputs look like.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from llmjp_runtime.errors import ExecutorClosed, RequestRefused
from llmjp_runtime.executor.admission import check_request
from llmjp_runtime.executor.protocol import ExecutorHealth, FinishReason, TokenEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from llmjp_runtime.executor.protocol import ExecutorLimits, GenerationRequest

_log = logging.getLogger(__name__)

BEAT_S = 0.5
"""Between two heartbeats of the loop."""
ABORT_S = 5.0
"""How long an aborted request may take to end before it is given up."""
ERROR_LENGTH = 300
"""Characters of an error that are passed on."""


class Reply(ABC):
    """One reply in the making: an engine's outputs, folded into events."""

    REASONS: ClassVar[Mapping[str, FinishReason]]
    """What the engine calls the reasons to end."""

    def __init__(self, request: GenerationRequest) -> None:
        """Start with no output."""
        self._end_ids = request.sampling.end_ids
        self._log_probs = request.log_probs
        self.num_tokens = 0
        """Ids given so far, without an end id."""

    @abstractmethod
    def feed(self, completion: Any) -> TokenEvent | None:
        """Return the event of one of the engine's outputs; None if it brings no ids."""

    def add(self, ids: list[int], log_probs: tuple[float, ...] | None) -> TokenEvent | None:
        """Return the event of new ids, of which the last may be an end id."""
        if ids and ids[-1] in self._end_ids:
            ids.pop()
        if not ids:
            return None
        self.num_tokens += len(ids)
        values = None if log_probs is None else log_probs[: len(ids)]
        return TokenEvent(token_ids=tuple(ids), log_probs=values, num_generated=self.num_tokens)

    def end(self, finish_reason: str | None, *, cancelled: bool) -> TokenEvent:
        """Return the final event.

        Args:
            finish_reason: the engine's, of its last output.
            cancelled: whether an end without a reason was requested.
        """
        reason = self.REASONS.get(finish_reason or "")
        if reason is None:
            if not cancelled:
                return self.fail(f"it ended with finish_reason {finish_reason!r}")
            reason = FinishReason.CANCELLED
        ended = reason is FinishReason.STOP
        return TokenEvent(num_generated=self.num_tokens + ended, finish_reason=reason)

    def fail(self, why: str) -> TokenEvent:
        """Return the final event of a reply that the engine gave up."""
        return TokenEvent(num_generated=self.num_tokens, error=f"the engine failed: {why}")


class Completion(Protocol):
    """What of an engine's output is read here."""

    finish_reason: str | None


@dataclass(slots=True, eq=False)
class Call:
    """A request, from `submit` to its final event."""

    request: GenerationRequest
    on_event: Callable[[TokenEvent], None]
    task: asyncio.Task[None] | None = None
    result: Any = None
    """The engine's own handle, once the request was handed over."""
    cancelled: bool = False


class AsyncioExecutor(ABC):
    """See `protocol.Executor`. Owns the engine and a thread with an asyncio loop."""

    NAME: ClassVar[str]
    """The engine's, for messages."""

    def __init__(self, limits: ExecutorLimits) -> None:
        """Start the loop."""
        self._limits = limits
        self._lock = threading.Lock()
        # Guarded by _lock:
        self._live: dict[str, Call] = {}
        self._closing = False
        # Written by the loop alone:
        self._heartbeat = time.monotonic()
        self._num_steps = 0
        self._num_generated = 0
        self._error: str | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name=self.NAME, daemon=True)
        self._thread.start()

    @abstractmethod
    def _open(self, call: Call) -> AsyncIterator[Completion]:
        """Hand a request over and yield the engine's outputs for it."""

    @abstractmethod
    def _make_reply(self, request: GenerationRequest) -> Reply: ...

    @abstractmethod
    def _abort(self, call: Call) -> None:
        """Ask the engine to end a request that was handed over. Called in the loop."""

    @abstractmethod
    def _concerns_one_request(self, failure: Exception) -> bool:
        """Return whether others may continue after a failure."""

    @abstractmethod
    def _shut_down(self) -> None:
        """End the engine; no request is left."""

    def _find_trouble(self) -> str | None:
        """Return why the engine can serve no more, where it says so unasked."""
        return None

    @property
    def limits(self) -> ExecutorLimits:
        """Constant after construction."""
        return self._limits

    def submit(self, request: GenerationRequest, on_event: Callable[[TokenEvent], None], /) -> None:
        """Queue a request; see `protocol.Executor.submit`.

        Raises:
            RequestRefused: (a ValueError) a limit is broken or the id is in use.
            ExecutorClosed: after `close`.
        """
        check_request(request, self._limits)
        call = Call(request, on_event)
        with self._lock:
            if self._closing:
                raise ExecutorClosed("the executor is closed")
            if request.request_id in self._live:
                raise RequestRefused(f"request_id {request.request_id!r} is in use")
            self._live[request.request_id] = call
            self._loop.call_soon_threadsafe(self._start, call)

    def cancel(self, request_id: str, /) -> bool:
        """Ask for a request to end; see `protocol.Executor.cancel`."""
        with self._lock:
            call = self._live.get(request_id)
            if call is not None and not call.cancelled:
                call.cancelled = True
                self._loop.call_soon_threadsafe(self._give_up, call)
        return call is not None

    def health(self) -> ExecutorHealth:
        """Return a reading, with a full batch as active: the engine does not say which are."""
        num_streams = len(self._live)
        active = min(num_streams, self._limits.max_batch_size)
        return ExecutorHealth(
            heartbeat_age_s=time.monotonic() - self._heartbeat,
            num_active=active,
            num_waiting=num_streams - active,
            num_steps=self._num_steps,
            num_generated=self._num_generated,
            error=self._error,
        )

    def close(self) -> None:
        """End every request, the loop and the engine."""
        with self._lock:
            first, self._closing = not self._closing, True
            ids = list(self._live)
        for request_id in ids:
            self.cancel(request_id)
        if first:
            asyncio.run_coroutine_threadsafe(self._drain(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._shut_down()
            self._loop.close()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._beat()
        self._loop.run_forever()

    def _beat(self) -> None:
        self._heartbeat = time.monotonic()
        self._error = self._error or self._find_trouble()
        self._loop.call_later(BEAT_S, self._beat)

    def _start(self, call: Call) -> None:
        call.task = self._loop.create_task(self._generate(call))

    def _give_up(self, call: Call) -> None:
        if call.result is not None:
            self._abort(call)
        if call.task is not None:
            self._loop.call_later(ABORT_S, call.task.cancel)

    async def _drain(self) -> None:
        tasks = [call.task for call in list(self._live.values()) if call.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _generate(self, call: Call) -> None:
        """Take one request from its first to its last output."""
        reply = self._make_reply(call.request)
        final = TokenEvent(finish_reason=FinishReason.CANCELLED)
        try:
            if not call.cancelled:
                final = await self._relay(call, reply)
        except asyncio.CancelledError:
            # Given up after an abort; the loop continues.
            final = reply.end(None, cancelled=True)
        except Exception as exc:  # noqa: BLE001  a request's edge
            _log.exception("request failed")
            words = (str(exc).strip() or type(exc).__name__)[:ERROR_LENGTH]
            if not self._concerns_one_request(exc):
                trouble = self._find_trouble()
                words = trouble or words
                self._error = trouble or f"{type(exc).__name__} in {self.NAME}"
            final = reply.fail(words)
        with self._lock:
            del self._live[call.request.request_id]
        call.on_event(final)

    async def _relay(self, call: Call, reply: Reply) -> TokenEvent:
        reason = None
        async for completion in self._open(call):
            event = reply.feed(completion)
            self._num_steps += 1
            if event is not None:
                self._num_generated += len(event.token_ids)
                call.on_event(event)
            reason = completion.finish_reason
        final = reply.end(reason, cancelled=call.cancelled)
        self._num_generated += final.num_generated - reply.num_tokens
        return final
