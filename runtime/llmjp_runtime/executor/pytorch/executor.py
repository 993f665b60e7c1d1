"""The executor `pytorch`: TensorRT-LLM's LLM API, whose engine is PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch

from llmjp_builder.contracts.defaults import KV_CACHE_FRACTION
from llmjp_runtime.executor.asyncio_calls import AsyncioExecutor
from llmjp_runtime.executor.hf_limits import read_limits
from llmjp_runtime.executor.pytorch.messages import (
    FEATURES,
    SAMPLER,
    LlmReply,
    build_sampling_arguments,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from llmjp_runtime.executor.asyncio_calls import Call
    from llmjp_runtime.executor.protocol import ExecutorLimits, Feature, GenerationRequest
    from llmjp_runtime.executor.pytorch.llm_api import LlmApi


class PyTorchExecutor(AsyncioExecutor):
    """See `protocol.Executor`. Owns the LLM."""

    NAME = "TensorRT-LLM"

    def __init__(self, llm: Any, api: LlmApi, limits: ExecutorLimits) -> None:
        """Start the loop."""
        self._llm = llm
        self._api = api
        super().__init__(limits)

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
        limits = read_limits(checkpoint, max_batch_size, max_context)
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
    def features(self) -> frozenset[Feature]:
        """All but bad words."""
        return FEATURES

    async def _open(self, call: Call) -> AsyncIterator[Any]:
        arguments = build_sampling_arguments(call.request, self._build_bias)
        call.result = self._llm.generate_async(
            list(call.request.prompt_ids), self._api.SamplingParams(**arguments), streaming=True
        )
        async for output in call.result:
            yield output.outputs[0]

    def _make_reply(self, request: GenerationRequest) -> LlmReply:
        return LlmReply(request)

    def _abort(self, call: Call) -> None:
        call.result.abort()

    def _concerns_one_request(self, failure: Exception) -> bool:
        return isinstance(failure, self._api.RequestError)

    def _shut_down(self) -> None:
        self._llm.shutdown()

    def _build_bias(self, pairs: tuple[tuple[int, float], ...]) -> torch.Tensor:
        bias = torch.zeros(self._limits.vocab_size)
        for token, value in pairs:
            bias[token] += value
        return bias
