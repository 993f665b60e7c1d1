"""Requests and replies between the executor's protocol and vLLM. Pure.

Names and manners of vLLM 0.24 to 0.29: vllm/sampling_params.py, vllm/outputs.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmjp_runtime.executor.asyncio_calls import Reply
from llmjp_runtime.executor.protocol import Feature, FinishReason

if TYPE_CHECKING:
    from llmjp_runtime.executor.protocol import GenerationRequest, SamplingParams, TokenEvent

FEATURES = frozenset(Feature) - {Feature.BAD_WORDS, Feature.TOP_LOG_PROBS}
"""vLLM takes forbidden words as text, for a tokenizer that it does not have here."""

_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "abort": FinishReason.CANCELLED,
}


def build_sampling_arguments(request: GenerationRequest) -> dict[str, Any]:
    """Return the arguments of `vllm.SamplingParams`, but for the kind of output.

    Only what asks for something is given: a seed of its own, say, takes a request out of the
    batch's common draw.
    """
    sampling = request.sampling
    arguments: dict[str, Any] = {
        "max_tokens": sampling.max_tokens,
        "detokenize": False,
        "ignore_eos": True,  # the front model says which ids end a reply
        **_build_choice(sampling),
    }
    optional: dict[str, tuple[object, object]] = {
        "repetition_penalty": (sampling.repetition_penalty, 1.0),
        "presence_penalty": (sampling.presence_penalty, 0.0),
        "frequency_penalty": (sampling.frequency_penalty, 0.0),
        "min_tokens": (sampling.min_tokens, 0),
        "seed": (sampling.seed, None),
        "stop_token_ids": (sorted(sampling.end_ids), []),
        "logit_bias": (_add_up(sampling.embedding_bias), {}),
        "logprobs": (0 if request.log_probs else None, None),
    }
    return arguments | {name: v for name, (v, default) in optional.items() if v != default}


def _build_choice(sampling: SamplingParams) -> dict[str, Any]:
    if sampling.temperature == 0 or sampling.top_k == 1:
        return {"temperature": 0.0}
    return {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
    }


def _add_up(pairs: tuple[tuple[int, float], ...]) -> dict[int, float]:
    total: dict[int, float] = {}
    for token, value in pairs:
        total[token] = total.get(token, 0.0) + value
    return total


class VllmReply(Reply):
    """One reply in the making: vLLM's outputs, folded into events."""

    REASONS = _REASONS

    def feed(self, completion: Any) -> TokenEvent | None:
        """Return the event of one `CompletionOutput` of kind DELTA; None if it brings no ids."""
        ids = list(completion.token_ids)
        log_probs = None
        if self._log_probs:
            steps = zip(ids, completion.logprobs or (), strict=False)
            log_probs = tuple(float(step[token].logprob) for token, step in steps)
        return self.add(ids, log_probs)
