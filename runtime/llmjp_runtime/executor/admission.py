"""Admission: which requests an executor refuses, and with which message. Needs no tensors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from llmjp_runtime.errors import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmjp_runtime.executor.protocol import ExecutorLimits, GenerationRequest, SamplingParams


def check_request(request: GenerationRequest, limits: ExecutorLimits) -> None:
    """Refuse a request that could not be served.

    Raises:
        RequestRefused: the first broken limit, by name, with the value and what is allowed.
    """
    for problem in _find_problems(request, limits):
        raise RequestRefused(problem)


def _find_problems(request: GenerationRequest, limits: ExecutorLimits) -> Iterator[str]:
    sampling, num_prompt = request.sampling, len(request.prompt_ids)
    if num_prompt == 0:
        yield "prompt_ids is empty: at least one id is needed"
    if sampling.max_tokens < 1:
        yield f"max_tokens is {sampling.max_tokens}: at least 1 is needed"
    if num_prompt + sampling.max_tokens > limits.max_context:
        yield (
            f"prompt ({num_prompt}) and max_tokens ({sampling.max_tokens}) exceed the context"
            f" of {limits.max_context}"
        )
    yield from _check_numbers(sampling)
    if () in sampling.bad_words:
        yield "bad_words has an empty sequence"
    yield from _check_ids("prompt_ids", request.prompt_ids, limits)
    yield from _check_ids("end_ids", sampling.end_ids, limits)
    yield from _check_ids("bad_words", (i for word in sampling.bad_words for i in word), limits)
    yield from _check_ids("embedding_bias", (i for i, _ in sampling.embedding_bias), limits)


def _check_numbers(sampling: SamplingParams) -> Iterator[str]:
    """Yield each number out of range; comparisons with NaN are false, so NaN never passes."""
    rules = {
        "min_tokens": (sampling.min_tokens, sampling.min_tokens >= 0, ">= 0"),
        "temperature": (sampling.temperature, 0 <= sampling.temperature < math.inf, ">= 0"),
        "top_k": (sampling.top_k, sampling.top_k >= 0, ">= 0"),
        "top_p": (sampling.top_p, 0 < sampling.top_p <= 1, "in (0, 1]"),
        "repetition_penalty": (
            sampling.repetition_penalty,
            0 < sampling.repetition_penalty < math.inf,
            "> 0",
        ),
        "presence_penalty": (
            sampling.presence_penalty,
            math.isfinite(sampling.presence_penalty),
            "finite",
        ),
        "frequency_penalty": (
            sampling.frequency_penalty,
            math.isfinite(sampling.frequency_penalty),
            "finite",
        ),
    }
    yield from (
        f"{name} is {value}: must be {rule}" for name, (value, ok, rule) in rules.items() if not ok
    )
    if not all(math.isfinite(bias) for _, bias in sampling.embedding_bias):
        yield "embedding_bias has a bias that is not finite"


def _check_ids(name: str, ids: Iterable[int], limits: ExecutorLimits) -> Iterator[str]:
    if any(not 0 <= i < limits.vocab_size for i in ids):
        yield f"{name} has an id outside of [0, {limits.vocab_size})"
