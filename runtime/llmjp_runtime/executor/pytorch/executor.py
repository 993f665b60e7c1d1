"""The executor `pytorch`: TensorRT-LLM's LLM API, whose engine is PyTorch."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch

from llmjp_builder.contracts.defaults import KV_CACHE_FRACTION
from llmjp_runtime.errors import ArtefactInvalid, ExecutorClosed, OptionInvalid, RequestRefused
from llmjp_runtime.executor.admission import check_request
from llmjp_runtime.executor.protocol import (
    ExecutorHealth,
    ExecutorLimits,
    Feature,
    FinishReason,
    TokenEvent,
)
from llmjp_runtime.executor.pytorch.messages import (
    FEATURES,
    SAMPLER,
    LlmReply,
    build_sampling_arguments,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmjp_runtime.executor.protocol import GenerationRequest
    from llmjp_runtime.executor.pytorch.llm_api import LlmApi

_log = logging.getLogger(__name__)

BEAT_S = 0.5
"""Between two heartbeats of the loop."""
ABORT_S = 5.0
"""How long an aborted request may take to end before it is given up."""
ERROR_LENGTH = 300
"""Characters of an error that are passed on."""


@dataclass(slots=True, eq=False)
class _LlmCall:
    request: GenerationRequest
    on_event: Callable[[TokenEvent], None]
    task: asyncio.Task[None] | None = None
    result: Any = None
    """The LLM API's `RequestOutput`, once the request was handed over."""
    cancelled: bool = False


class PyTorchExecutor:
    """See `protocol.Executor`. Owns the LLM and a thread with an asyncio loop."""

    def __init__(self, llm: Any, api: LlmApi, limits: ExecutorLimits) -> None:
        """Start the loop."""
        self._llm = llm
        self._api = api
        self._limits = limits
        self._lock = threading.Lock()
        # Guarded by _lock:
        self._live: dict[str, _LlmCall] = {}
        self._closing = False
        # Written by the loop alone:
        self._heartbeat = time.monotonic()
        self._num_steps = 0
        self._num_generated = 0
        self._error: str | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="llm-api", daemon=True)
        self._thread.start()

    @classmethod
    def load(
        cls,
        api: LlmApi,
        checkpoint: Path,
        *,
        tensor_parallel: int = 1,
        pipeline_parallel: int = 1,
        max_batch_size: int = 32,
        max_context: int | None = None,
        kv_cache_fraction: float = KV_CACHE_FRACTION,
    ) -> Self:
        """Load the Hugging Face checkpoint in a folder; the executor is ready to serve.

        Raises:
            ArtefactInvalid: config.json is missing or lacks a value.
            OptionInvalid: `max_context` is longer than the model's.
        """
        limits = _read_limits(checkpoint, max_batch_size, max_context)
        llm = api.LLM(
            model=str(checkpoint),
            skip_tokenizer_init=True,
            tensor_parallel_size=tensor_parallel,
            pipeline_parallel_size=pipeline_parallel,
            max_batch_size=limits.max_batch_size,
            max_seq_len=limits.max_context,
            enable_chunked_prefill=True,
            sampler_type=SAMPLER,
            kv_cache_config=api.KvCacheConfig(free_gpu_memory_fraction=kv_cache_fraction),
        )
        return cls(llm, api, limits)

    @property
    def limits(self) -> ExecutorLimits:
        """Constant after construction."""
        return self._limits

    @property
    def features(self) -> frozenset[Feature]:
        """All but bad words."""
        return FEATURES

    def submit(self, request: GenerationRequest, on_event: Callable[[TokenEvent], None], /) -> None:
        """Queue a request; see `protocol.Executor.submit`.

        Raises:
            RequestRefused: (a ValueError) a limit is broken or the id is in use.
            ExecutorClosed: after `close`.
        """
        check_request(request, self._limits)
        call = _LlmCall(request, on_event)
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
                self._loop.call_soon_threadsafe(self._abort, call)
        return call is not None

    def health(self) -> ExecutorHealth:
        """Return a reading, with a full batch as active: the LLM API does not say which are."""
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
        """End every request, the loop and the LLM."""
        with self._lock:
            first, self._closing = not self._closing, True
            ids = list(self._live)
        for request_id in ids:
            self.cancel(request_id)
        if first:
            asyncio.run_coroutine_threadsafe(self._drain(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._llm.shutdown()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._beat()
        self._loop.run_forever()

    def _beat(self) -> None:
        self._heartbeat = time.monotonic()
        self._loop.call_later(BEAT_S, self._beat)

    def _start(self, call: _LlmCall) -> None:
        call.task = self._loop.create_task(self._generate(call))

    def _abort(self, call: _LlmCall) -> None:
        if call.result is not None:
            call.result.abort()
        if call.task is not None:
            self._loop.call_later(ABORT_S, call.task.cancel)

    async def _drain(self) -> None:
        tasks = [call.task for call in list(self._live.values()) if call.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _generate(self, call: _LlmCall) -> None:
        """Take one request from its first to its last output."""
        reply = LlmReply(call.request)
        final = TokenEvent(finish_reason=FinishReason.CANCELLED)
        try:
            if not call.cancelled:
                final = await self._relay(call, reply)
        except asyncio.CancelledError:
            # Given up after an abort; the loop continues.
            final = reply.end(None, cancelled=True)
        except Exception as exc:  # noqa: BLE001  a request's edge
            _log.exception("request failed")
            final = reply.fail((str(exc).strip() or type(exc).__name__)[:ERROR_LENGTH])
            if not isinstance(exc, self._api.RequestError):
                self._error = f"{type(exc).__name__} in TensorRT-LLM"
        with self._lock:
            del self._live[call.request.request_id]
        call.on_event(final)

    async def _relay(self, call: _LlmCall, reply: LlmReply) -> TokenEvent:
        arguments = build_sampling_arguments(call.request, self._build_bias)
        call.result = self._llm.generate_async(
            list(call.request.prompt_ids), self._api.SamplingParams(**arguments), streaming=True
        )
        reason = None
        async for output in call.result:
            completion = output.outputs[0]
            event = reply.feed(completion)
            self._num_steps += 1
            if event is not None:
                self._num_generated += len(event.token_ids)
                call.on_event(event)
            reason = completion.finish_reason
        final = reply.end(reason, cancelled=call.cancelled)
        self._num_generated += final.num_generated - reply.num_tokens
        return final

    def _build_bias(self, pairs: tuple[tuple[int, float], ...]) -> torch.Tensor:
        bias = torch.zeros(self._limits.vocab_size)
        for token, value in pairs:
            bias[token] += value
        return bias


def _read_limits(checkpoint: Path, max_batch_size: int, max_context: int | None) -> ExecutorLimits:
    path = checkpoint / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
        longest, vocab_size = int(config["max_position_embeddings"]), int(config["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        what = f"has no {exc}" if isinstance(exc, KeyError) else f"cannot be read: {exc}"
        raise ArtefactInvalid(f"{path} {what}: build the artefact again") from exc
    if max_context is not None and not 1 <= max_context <= longest:
        raise OptionInvalid(f"max_context is {max_context}, expected 1 to {longest}")
    return ExecutorLimits(
        max_context=max_context or longest, vocab_size=vocab_size, max_batch_size=max_batch_size
    )
