"""The executor `tensorrt`: TensorRT-LLM's C++ model, beside the front model in the same Triton.

Requests are calls through the server's own gRPC endpoint (`front.grpc_peer`), each of which blocks
a thread of a bounded pool until its last response. A request is cancelled by a second one with the
same id and `stop`, repeated until the first one ends: TensorRT-LLM forgets a stop that arrives
before its request.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from llmjp_runtime.errors import ExecutorClosed, RequestRefused
from llmjp_runtime.executor.admission import check_request
from llmjp_runtime.executor.protocol import (
    ExecutorHealth,
    Feature,
    FinishReason,
    GenerationRequest,
    SamplingParams,
    TokenEvent,
)
from llmjp_runtime.executor.tensorrt.messages import (
    OUTPUT_NAMES,
    EngineReply,
    check_engine_limits,
    encode_request,
    encode_stop,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from llmjp_runtime.executor.protocol import ExecutorLimits
    from llmjp_runtime.executor.tensorrt.engine_config import EngineConfig

_log = logging.getLogger(__name__)

MARGIN = 8
"""Requests in flight beyond a full batch, so that a freed slot is taken at the next step. (None
if the settings want fewer than the engine was built for: it would step them all.)"""
IDLE_S = 1.0
"""Between two checks of the engine."""
BUSY_S = 0.1
"""The same while something is awaited: the engine's readiness, or the end of a stopped request."""
CLOSE_S = 5.0
"""How long `close` waits for stopped requests to end."""
ERROR_LENGTH = 300
"""Characters of an engine's error that are passed on."""
PROBE = GenerationRequest(
    request_id="engine-probe", prompt_ids=(1,), sampling=SamplingParams(max_tokens=1, top_k=1)
)
"""Tells a broken engine from a request that it could not do."""


class InferenceModel(Protocol):
    """The C++ model `tensorrt_llm`."""

    def is_ready(self) -> bool:
        """Return whether it takes requests; a round trip."""
        ...

    def infer(
        self, tensors: Mapping[str, NDArray[np.generic]], request_id: str, outputs: Sequence[str], /
    ) -> Iterator[Mapping[str, NDArray[np.generic]]]:
        """Yield the responses to one request as they come; block between them.

        Raises:
            Exception: the model answered with an error.
        """
        ...


@dataclass(slots=True, eq=False)
class _EngineCall:
    request: GenerationRequest
    on_event: Callable[[TokenEvent], None]
    engine_id: str
    """Digits only: the backend reads an id that begins with digits as that number."""
    started: bool = False
    cancelled: bool = False


class TensorRTExecutor:
    """See `protocol.Executor`; the engine may still be loading when this is made."""

    def __init__(self, model: InferenceModel, engine: EngineConfig, limits: ExecutorLimits) -> None:
        """Start the threads; nothing is sent before the model is ready."""
        self._model = model
        self._engine = engine
        self._limits = limits
        self._numbers = itertools.count(1)
        self._wake = threading.Condition()
        # Guarded by _wake, which is never held during a call:
        self._live: dict[str, _EngineCall] = {}
        self._closing = False
        self._num_steps = 0
        self._num_generated = 0
        self._ready = threading.Event()
        self._heartbeat = time.monotonic()
        self._error: str | None = None
        margin = MARGIN if limits.max_batch_size == engine.max_batch_size else 0
        self._pool = ThreadPoolExecutor(limits.max_batch_size + margin, "engine-request")
        self._thread = threading.Thread(target=self._watch_engine, name="engine-watch", daemon=True)
        self._thread.start()

    @property
    def limits(self) -> ExecutorLimits:
        """Constant after construction."""
        return self._limits

    @property
    def features(self) -> frozenset[Feature]:
        """All but the likeliest ids; presence and frequency penalties count the prompt as well."""
        return frozenset(Feature) - {Feature.TOP_LOG_PROBS}

    def submit(self, request: GenerationRequest, on_event: Callable[[TokenEvent], None], /) -> None:
        """Queue a request; see `protocol.Executor.submit`.

        Raises:
            RequestRefused: (a ValueError) a limit is broken or the id is in use.
            ExecutorClosed: after `close`.
        """
        check_request(request, self._limits)
        check_engine_limits(request, self._engine)
        call = _EngineCall(request, on_event, str(next(self._numbers)))
        with self._wake:
            if self._closing:
                raise ExecutorClosed("the executor is closed")
            if request.request_id in self._live:
                raise RequestRefused(f"request_id {request.request_id!r} is in use")
            self._live[request.request_id] = call
            self._pool.submit(self._generate, call)

    def cancel(self, request_id: str, /) -> bool:
        """Ask for a request to end; see `protocol.Executor.cancel`."""
        with self._wake:
            call = self._live.get(request_id)
            if call is None:
                return False
            call.cancelled = True
            self._wake.notify()
            waiting = not call.started
        if waiting:
            self._finish(call, TokenEvent(finish_reason=FinishReason.CANCELLED))
        return True

    def health(self) -> ExecutorHealth:
        """Return a reading; a step is a response of the engine to any request."""
        with self._wake:
            active = sum(call.started for call in self._live.values())
            return ExecutorHealth(
                heartbeat_age_s=time.monotonic() - self._heartbeat,
                num_active=active,
                num_waiting=len(self._live) - active,
                num_steps=self._num_steps,
                num_generated=self._num_generated,
                error=self._error,
            )

    def close(self) -> None:
        """End every request and the threads. The engine itself is Triton's to unload."""
        with self._wake:
            self._closing = True
            self._wake.notify()
            ids = list(self._live)
        for request_id in ids:
            self.cancel(request_id)
        self._ready.set()
        with self._wake:
            self._wake.wait_for(lambda: not self._live, CLOSE_S)
            left = list(self._live.values())
        for call in left:
            self._finish(call, TokenEvent(finish_reason=FinishReason.CANCELLED))
        self._thread.join()
        self._pool.shutdown(wait=False)

    def _generate(self, call: _EngineCall) -> None:
        """Take one request from its first to its last response (a thread of the pool)."""
        self._ready.wait()
        with self._wake:
            if call.cancelled:
                return
            call.started = True
        reply = EngineReply(call.request)
        try:
            self._relay(call, reply)
            final = reply.end(cancelled=call.cancelled)
        except Exception as exc:  # noqa: BLE001  a thread's edge
            _log.exception("request failed")
            reason = str(exc).strip().splitlines()[:1] or [type(exc).__name__]
            error = f"the engine failed: {reason[0][:ERROR_LENGTH]}"
            final = TokenEvent(num_generated=reply.num_tokens, error=error)
        self._finish(call, final)
        if final.error and not call.cancelled:
            self._probe_engine(call, final.error)

    def _relay(self, call: _EngineCall, reply: EngineReply) -> None:
        tensors = encode_request(call.request, self._limits.vocab_size)
        for outputs in self._model.infer(tensors, call.engine_id, OUTPUT_NAMES):
            before = reply.num_tokens
            event = reply.feed(outputs)
            with self._wake:
                self._num_steps += 1
                self._num_generated += reply.num_tokens - before
            if event is not None:
                call.on_event(event)

    def _finish(self, call: _EngineCall, final: TokenEvent) -> None:
        """Deliver the last event, once."""
        with self._wake:
            if self._live.get(call.request.request_id) is not call:
                return
            del self._live[call.request.request_id]
            self._wake.notify_all()
        call.on_event(final)

    def _probe_engine(self, call: _EngineCall, error: str) -> None:
        """Send a request of our own after a failure: if it fails too, the engine is broken."""
        if call.request is PROBE:
            self._error = error
            return
        try:
            self.submit(PROBE, lambda _: None)
        except (ExecutorClosed, RequestRefused):
            return

    def _watch_engine(self) -> None:
        """Check the engine and stop cancelled requests, until nothing is left to do."""
        while True:
            try:
                self._check_engine()
            except Exception as exc:  # noqa: BLE001  a thread's edge
                _log.warning("the engine was not stopped: %s", exc)
            with self._wake:
                stopping = any(call.cancelled for call in self._live.values())
                if self._closing and not self._live:
                    return
                self._wake.wait(IDLE_S if self._ready.is_set() and not stopping else BUSY_S)

    def _check_engine(self) -> None:
        if self._model.is_ready():
            self._heartbeat = time.monotonic()
            self._ready.set()
        with self._wake:
            stopping = [call for call in self._live.values() if call.cancelled and call.started]
        for call in stopping:
            for _ in self._model.infer(encode_stop(), call.engine_id, OUTPUT_NAMES):
                pass
