"""The executor `vllm`: vLLM's asyncio engine, whose core is a process of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Self

from llmjp_runtime.executor.asyncio_calls import AsyncioExecutor
from llmjp_runtime.executor.hf_limits import read_limits
from llmjp_runtime.executor.vllm.engine import build_engine_arguments, start_engine
from llmjp_runtime.executor.vllm.messages import FEATURES, VllmReply, build_sampling_arguments

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from llmjp_runtime.executor.asyncio_calls import Call
    from llmjp_runtime.executor.protocol import ExecutorLimits, Feature, GenerationRequest
    from llmjp_runtime.executor.vllm.engine import EngineSettings, VllmApi


PACED_FROM: Final = 32
"""Streams from which on events are paced."""


class VllmExecutor(AsyncioExecutor):
    """See `protocol.Executor`. Owns the engine."""

    NAME = "vLLM"

    def __init__(
        self, engine: Any, api: VllmApi, limits: ExecutorLimits, *, pace_s: float = 0.0
    ) -> None:
        """Start the loop; `pace_s` as in `load`."""
        self._engine = engine
        self._api = api
        self._pace_s = pace_s
        self._aborts: set[asyncio.Task[None]] = set()
        super().__init__(limits)

    @classmethod
    def load(
        cls,
        api: VllmApi,
        checkpoint: Path,
        settings: EngineSettings,
        *,
        max_batch_size: int = 32,
        max_context: int | None = None,
        pace_s: float = 0.0,
    ) -> Self:
        """Load the Hugging Face checkpoint in a folder; the executor is ready to serve.

        Args:
            api: the installed vLLM.
            checkpoint: the folder.
            settings: what vLLM is told.
            max_batch_size: requests at once.
            max_context: tokens of prompt and reply; None for the model's limit.
            pace_s: with many streams, least time between two events of one.

        Raises:
            ArtefactInvalid: config.json is missing or lacks a value.
            OptionInvalid: `max_context` is longer than the model's.
            Exception: what vLLM raises; its own log says more.
        """
        limits = read_limits(checkpoint, max_batch_size, max_context)
        arguments = build_engine_arguments(
            checkpoint, limits, settings, runs_on_cpu=api.runs_on_cpu
        )
        return cls(start_engine(api, arguments), api, limits, pace_s=pace_s)

    @property
    def features(self) -> frozenset[Feature]:
        """All but bad words."""
        return FEATURES

    async def _open(self, call: Call) -> AsyncIterator[Any]:
        params = self._api.SamplingParams(
            **build_sampling_arguments(call.request),
            output_kind=self._api.RequestOutputKind.DELTA,
        )
        prompt = {"prompt_token_ids": list(call.request.prompt_ids)}
        call.result = call.request.request_id
        async for output in self._engine.generate(prompt, params, call.result):
            yield output.outputs[0]
            # vLLM merges what comes while nobody asks. A step of many streams costs this process
            # and the front more than the engine, if each of them is told of each token.
            if self._pace_s and len(self._live) > PACED_FROM and not output.finished:
                await asyncio.sleep(self._pace_s)

    def _make_reply(self, request: GenerationRequest) -> VllmReply:
        return VllmReply(request)

    def _abort(self, call: Call) -> None:
        task = self._loop.create_task(self._engine.abort(call.result))
        self._aborts.add(task)
        task.add_done_callback(self._aborts.discard)

    def _concerns_one_request(self, failure: Exception) -> bool:
        return not isinstance(failure, self._api.EngineDeadError)

    def _find_trouble(self) -> str | None:
        return "vLLM's core ended" if self._engine.errored else None

    def _shut_down(self) -> None:
        self._engine.shutdown()
