"""STAND-IN for the part of TensorRT-LLM's LLM API that the executor `pytorch` uses.

Signatures, defaults and manners of NVIDIA/TensorRT-LLM 1.3.0rc3 (not compared with 1.2.1, which is
in the image), from tests/unittest/api_stability/references{,_committed}/{llm,sampling_params,
request_output,completion_output}.yaml, tensorrt_llm/llmapi/{llm,llm_args}.py,
tensorrt_llm/sampling_params.py and tensorrt_llm/executor/{result,executor}.py.
Every parameter that we never pass is left out, so that
passing one that does not exist fails here too.

A reply to prompt p is p[-1] + 1, p[-1] + 2, ... modulo the vocabulary, until an end id or
`max_tokens`; nothing comes before the test says `LLM.release`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch

from llmjp_runtime.executor.pytorch.llm_api import LlmApi

VOCAB = 50


class RequestError(RuntimeError):
    """One request failed."""


@dataclass(slots=True, kw_only=True)
class SamplingParams:
    """tensorrt_llm.SamplingParams, `_validate` included."""

    end_id: int | None = None
    pad_id: int | None = None
    max_tokens: int = 32
    stop_token_ids: list[int] | None = None
    embedding_bias: torch.Tensor | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    temperature: float | None = None
    min_tokens: int | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    prompt_ignore_length: int | None = None
    logprobs: int | None = None
    ignore_eos: bool = False
    detokenize: bool = True
    add_special_tokens: bool = True

    def __post_init__(self) -> None:
        if self.pad_id is None:
            self.pad_id = self.end_id
        if self.top_p is not None and not 0 <= self.top_p <= 1:
            raise ValueError(f"require 0 <= top_p <= 1, got top_p={self.top_p}")
        if self.temperature is not None and self.temperature < 0:
            raise ValueError(f"require temperature >= 0, got temperature={self.temperature}")


@dataclass(slots=True, kw_only=True)
class KvCacheConfig:
    """tensorrt_llm.llmapi.KvCacheConfig."""

    free_gpu_memory_fraction: float | None = 0.9


@dataclass(slots=True)
class Logprob:
    """tensorrt_llm.executor.result.Logprob."""

    logprob: float
    rank: int | None = None


@dataclass(slots=True)
class CompletionOutput:
    """tensorrt_llm.executor.result.CompletionOutput."""

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[dict[int, Logprob]] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    _last_token_ids_len: int = field(default=0, init=False)
    _last_logprobs_len: int = field(default=0, init=False)

    @property
    def token_ids_diff(self) -> list[int]:
        return self.token_ids[self._last_token_ids_len :]

    @property
    def logprobs_diff(self) -> list[dict[int, Logprob]]:
        return self.logprobs[self._last_logprobs_len :]


class RequestOutput:
    """tensorrt_llm.llmapi.RequestOutput: yields itself at each step."""

    def __init__(self, llm: LLM, prompt: list[int], params: SamplingParams) -> None:
        # The real one has no queue to wait for without a running loop.
        asyncio.get_running_loop()
        self.outputs = [CompletionOutput(0)]
        self.prompt = prompt
        self.params = params
        self._llm = llm
        self._done = False
        self._aborted = asyncio.Event()
        self._generated = 0

    @property
    def finished(self) -> bool:
        return self._done

    def abort(self) -> None:
        self._llm.aborted.append(self.prompt)
        if not self._llm.deaf:
            self._aborted.set()

    def aborted(self) -> bool:
        return self._aborted.is_set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Self:
        if self._done:
            raise StopAsyncIteration
        await self._turn()
        if self._llm.failure is not None:
            raise self._llm.failure
        output = self.outputs[0]
        output._last_token_ids_len = len(output.token_ids)
        output._last_logprobs_len = len(output.logprobs)
        if self._aborted.is_set():
            self._done, output.finish_reason = True, "cancelled"
        else:
            self._step(output)
        return self

    async def _turn(self) -> None:
        """Wait for the test, or for the abort."""
        waits = [
            asyncio.ensure_future(self._llm.gate.wait()),
            asyncio.ensure_future(self._aborted.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        await asyncio.sleep(0)

    def _step(self, output: CompletionOutput) -> None:
        self._generated += 1
        token = (self.prompt[-1] + self._generated) % VOCAB
        stops = self.params.stop_token_ids or []
        if token == self.params.end_id and not self.params.ignore_eos:
            # TRTLLMSampler puts out no end id.
            self._done, output.finish_reason = True, "stop"
            return
        if token in stops:
            # A stop token is appended and cut off again, in one step.
            self._done, output.finish_reason, output.stop_reason = True, "stop", token
            return
        output.token_ids.append(token)
        if self.params.logprobs is not None:
            output.logprobs.append({token: Logprob(-token / 10, 1)})
        if self._generated >= self.params.max_tokens:
            self._done, output.finish_reason = True, "length"


class LLM:
    """tensorrt_llm.LLM (the PyTorch one)."""

    def __init__(
        self,
        model: str | Path,
        *,
        skip_tokenizer_init: bool = False,
        tensor_parallel_size: int = 1,
        pipeline_parallel_size: int = 1,
        max_batch_size: int | None = None,
        max_seq_len: int | None = None,
        enable_chunked_prefill: bool = False,
        sampler_type: str = "auto",
        kv_cache_config: KvCacheConfig | None = None,
    ) -> None:
        self.arguments = {key: value for key, value in locals().items() if key != "self"}
        self.gate = asyncio.Event()
        self.requests: list[RequestOutput] = []
        self.aborted: list[list[int]] = []
        self.deaf = False
        """Aborts are heard and not followed."""
        self.failure: Exception | None = None
        self.is_shut_down = False

    def generate_async(
        self,
        inputs: list[int],
        sampling_params: SamplingParams | None = None,
        lora_request: Any = None,
        prompt_adapter_request: Any = None,
        streaming: bool = False,
    ) -> RequestOutput:
        if self.is_shut_down:
            raise RuntimeError("LLM is shutting down")
        assert streaming
        assert sampling_params is not None
        if sampling_params.end_id is None:
            raise ValueError("tokenizer is required to reset end_id if it is None")
        assert all(isinstance(token, int) for token in inputs)
        output = RequestOutput(self, inputs, sampling_params)
        self.requests.append(output)
        return output

    def shutdown(self) -> None:
        self.is_shut_down = True


API = LlmApi(
    LLM=LLM, SamplingParams=SamplingParams, KvCacheConfig=KvCacheConfig, RequestError=RequestError
)
