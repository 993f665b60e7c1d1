"""Requests and replies between the executor's protocol and TensorRT-LLM's LLM API. Pure.

Of the LLM API's two samplers only TRTLLMSampler applies penalties and per-request seeds;
TorchSampler, which it takes by itself, leaves them out without a word (NVIDIA/TensorRT-LLM,
1.3.0rc3, tensorrt_llm/_torch/pyexecutor/sampler.py). Hence `SAMPLER`.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from llmjp_runtime.executor.asyncio_calls import Reply
from llmjp_runtime.executor.protocol import Feature, FinishReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmjp_runtime.executor.protocol import GenerationRequest, SamplingParams, TokenEvent

SAMPLER = "TRTLLMSampler"

FEATURES = frozenset(Feature) - {Feature.BAD_WORDS, Feature.TOP_LOG_PROBS}
"""`SamplingParams` takes single forbidden ids only, and words are mostly several."""

_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "timeout": FinishReason.DEADLINE,
    "cancelled": FinishReason.CANCELLED,
}


def build_sampling_arguments(
    request: GenerationRequest, make_bias: Callable[[tuple[tuple[int, float], ...]], object]
) -> dict[str, Any]:
    """Return the arguments of `tensorrt_llm.SamplingParams`.

    Args:
        request: the request to sample for.
        make_bias: makes the tensor [vocab_size] of (id, bias) pairs.
    """
    sampling = request.sampling
    arguments: dict[str, Any] = {
        "max_tokens": sampling.max_tokens,
        "seed": secrets.randbits(63) if sampling.seed is None else sampling.seed,
        "detokenize": False,
        "add_special_tokens": False,
        **_build_choice(sampling),
        **_build_end_ids(sampling),
    }
    if sampling.repetition_penalty != 1:
        arguments["repetition_penalty"] = sampling.repetition_penalty
    if sampling.presence_penalty or sampling.frequency_penalty:
        arguments["presence_penalty"] = sampling.presence_penalty
        arguments["frequency_penalty"] = sampling.frequency_penalty
        # These two are for the reply alone.
        arguments["prompt_ignore_length"] = len(request.prompt_ids)
    if sampling.min_tokens:
        arguments["min_tokens"] = sampling.min_tokens
    if sampling.embedding_bias:
        arguments["embedding_bias"] = make_bias(sampling.embedding_bias)
    if request.log_probs:
        arguments["logprobs"] = 1
    return arguments


def _build_choice(sampling: SamplingParams) -> dict[str, Any]:
    if sampling.temperature == 0:
        return {"top_k": 1}
    limits = {"top_k": sampling.top_k, "top_p": sampling.top_p}
    return {"temperature": sampling.temperature} | ({"top_k": 1} if sampling.top_k == 1 else limits)


def _build_end_ids(sampling: SamplingParams) -> dict[str, Any]:
    """Return one end id; any others become stop tokens, which the LLM API cuts off the reply."""
    if not (ordered := sorted(sampling.end_ids)):
        # An id must be given where the LLM API has no tokenizer to ask.
        return {"end_id": 0, "ignore_eos": True}
    first, *others = ordered
    return {"end_id": first} | ({"stop_token_ids": others} if others else {})


class LlmReply(Reply):
    """One reply in the making: the LLM API's outputs, folded into events."""

    REASONS = _REASONS

    def feed(self, completion: Any) -> TokenEvent | None:
        """Return the event of one `CompletionOutput`; None if it brings no ids."""
        ids = [int(token) for token in completion.token_ids_diff]
        log_probs = _select_log_probs(ids, completion.logprobs_diff) if self._log_probs else None
        return self.add(ids, log_probs)


def _select_log_probs(ids: list[int], steps: list[Any]) -> tuple[float, ...]:
    """Return each id's log probability; a step has those of several ids, or of the chosen one."""
    return tuple(
        float(step[token].logprob if isinstance(step, dict) else step)
        for token, step in zip(ids, steps, strict=False)
    )
