"""Requests and replies between the executor's protocol and the C++ model `tensorrt_llm`. Pure.

Requests follow NVIDIA/TensorRT-LLM, triton_backend/inflight_batcher_llm/src/utils.cc (reading of
tensors), cpp/tensorrt_llm/kernels/{samplingTopKKernels,penaltyKernels}.cu (what the values do). In
1.2.1 that reader hands `len_penalty`, `early_stopping` and `num_return_sequences` to the wrong
arguments, so they are never sent.

A response carries the new ids of one beam and no reason for its end: the reason follows from the
request. The token that ends a reply is counted but not output if it is `end_id`
(cpp/tensorrt_llm/kernels/samplingTopKKernels.cu), and output if it is a stop word. Log
probabilities come for the whole reply so far, with every response
(cpp/tensorrt_llm/batch_manager/llmRequest.cpp, createResult).
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import numpy as np

from llmjp_runtime.errors import RequestRefused
from llmjp_runtime.executor.protocol import FinishReason, TokenEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from llmjp_runtime.executor.protocol import GenerationRequest, SamplingParams
    from llmjp_runtime.executor.tensorrt.engine_config import EngineConfig

    Tensors = dict[str, NDArray[np.generic]]
    """Name to array, batch dimension included."""

OUTPUT_NAMES = ("output_ids", "sequence_length", "output_log_probs")
"""The outputs to ask for; the model insists on the first two."""

TOP_K_LIMIT = 1024
"""The kernels' largest top_k."""


def check_engine_limits(request: GenerationRequest, engine: EngineConfig) -> None:
    """Refuse what this engine, or the C++ model, cannot do.

    Raises:
        RequestRefused: with the limit.
    """
    sampling = request.sampling
    if len(request.prompt_ids) > engine.max_prompt:
        raise RequestRefused(
            f"prompt: {len(request.prompt_ids)} tokens, but the engine reads at most"
            f" {engine.max_prompt} at once (max_num_tokens, and no paged context attention)"
        )
    if sampling.top_k > TOP_K_LIMIT:
        raise RequestRefused(f"top_k: must be at most {TOP_K_LIMIT}, found {sampling.top_k}")
    if sampling.min_tokens and len(sampling.end_ids) > 1:
        raise RequestRefused("min_tokens: the engine can hold back one end id only, give end_id")


def encode_request(request: GenerationRequest, vocab_size: int) -> Tensors:
    """Return the inputs that make the C++ model stream new ids only."""
    sampling = request.sampling
    return {
        "input_ids": np.array([request.prompt_ids], np.int32),
        "input_lengths": _make_int(len(request.prompt_ids)),
        "request_output_len": _make_int(sampling.max_tokens),
        "streaming": np.array([[True]]),
        "exclude_input_in_output": np.array([[True]]),
        "return_log_probs": np.array([[request.log_probs]]),
        **_encode_end_ids(sampling.end_ids),
        **_encode_sampling(sampling),
        **_encode_constraints(sampling, vocab_size),
    }


def encode_stop() -> Tensors:
    """Return the inputs that cancel the running request of the same id.

    Only `stop` is read; Triton itself insists on the two inputs that are not optional.
    """
    return {
        "stop": np.array([[True]]),
        "input_lengths": _make_int(1),
        "request_output_len": _make_int(1),
    }


def encode_words(words: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    """Return [1, 2, N]: all ids, padded with 0, over each word's end offset, padded with -1."""
    ids = [token for word in words for token in word]
    ends = np.cumsum([len(word) for word in words])
    table = np.array([[0] * len(ids), [-1] * len(ids)], np.int32)
    table[0, :] = ids
    table[1, : len(words)] = ends
    return table[np.newaxis]


def _encode_end_ids(end_ids: Iterable[int]) -> Tensors:
    """Return one end id, whose token the model never outputs; any others become stop words."""
    if not (ordered := sorted(end_ids)):
        return {}
    first, *others = ordered
    tensors: Tensors = {"end_id": _make_int(first), "pad_id": _make_int(first)}
    if others:
        tensors["stop_words_list"] = encode_words([(token,) for token in others])
    return tensors


def _encode_sampling(sampling: SamplingParams) -> Tensors:
    """Return how to sample, always with a seed: without one, every request gets the same."""
    greedy = sampling.temperature == 0 or sampling.top_k == 1
    seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
    tensors: Tensors = {
        "runtime_top_k": _make_int(1 if greedy else sampling.top_k),
        "runtime_top_p": _make_float(1.0 if greedy else sampling.top_p),
        "seed": np.array([[seed]], np.uint64),
    }
    if sampling.temperature > 0:
        tensors["temperature"] = _make_float(sampling.temperature)
    return tensors


def _encode_constraints(sampling: SamplingParams, vocab_size: int) -> Tensors:
    """Return the constraints that are in use: each costs a kernel, so the others are left out."""
    tensors: Tensors = {}
    if sampling.repetition_penalty != 1:
        tensors["repetition_penalty"] = _make_float(sampling.repetition_penalty)
    if sampling.presence_penalty:
        tensors["presence_penalty"] = _make_float(sampling.presence_penalty)
    if sampling.frequency_penalty:
        tensors["frequency_penalty"] = _make_float(sampling.frequency_penalty)
    if sampling.min_tokens:
        tensors["min_tokens"] = _make_int(sampling.min_tokens)
    if sampling.bad_words:
        tensors["bad_words_list"] = encode_words(sampling.bad_words)
    if sampling.embedding_bias:
        bias = np.zeros((1, vocab_size), np.float32)
        for token, value in sampling.embedding_bias:
            bias[0, token] += value
        tensors["embedding_bias"] = bias
    return tensors


def _make_int(value: int) -> NDArray[np.generic]:
    return np.array([[value]], np.int32)


def _make_float(value: float) -> NDArray[np.generic]:
    return np.array([[value]], np.float32)


class EngineReply:
    """One reply in the making; used by one thread."""

    def __init__(self, request: GenerationRequest) -> None:
        """Start with no response."""
        self._sampling = request.sampling
        self._log_probs = request.log_probs
        self._num_tokens = 0
        self._ended = False

    @property
    def num_tokens(self) -> int:
        """New ids so far, an end id that was seen included."""
        return self._num_tokens

    def feed(self, outputs: Mapping[str, NDArray[np.generic]]) -> TokenEvent | None:
        """Return the event of one response; None if it brings no ids, as the last may.

        Args:
            outputs: `output_ids` [1, 1, n], `sequence_length` [1, 1], and for a request of log
                probabilities `output_log_probs` [1, 1, m].
        """
        if self._ended or "output_ids" not in outputs:
            return None
        length = int(outputs["sequence_length"].reshape(-1)[0])
        ids = [int(token) for token in outputs["output_ids"].reshape(-1)[:length]]
        before = self._num_tokens
        self._num_tokens += len(ids)
        if ids and ids[-1] in self._sampling.end_ids:
            self._ended = True
            ids.pop()
        if not ids:
            return None
        return TokenEvent(
            token_ids=tuple(ids),
            log_probs=self._take_log_probs(outputs, before, len(ids)),
            num_generated=before + len(ids),
        )

    def _take_log_probs(
        self, outputs: Mapping[str, NDArray[np.generic]], before: int, count: int
    ) -> tuple[float, ...] | None:
        if not self._log_probs or "output_log_probs" not in outputs:
            return None
        values = outputs["output_log_probs"].reshape(-1)
        start = before if len(values) >= before + count else 0
        return tuple(float(value) for value in values[start : start + count])

    def end(self, *, cancelled: bool) -> TokenEvent:
        """Return the final event, after the last response."""
        sampling = self._sampling
        if self._ended:
            reason = FinishReason.STOP
        elif self._num_tokens >= sampling.max_tokens:
            reason = FinishReason.LENGTH
        elif cancelled:
            reason = FinishReason.CANCELLED
        else:
            reason = FinishReason.STOP if sampling.end_ids else FinishReason.LENGTH
        unseen_end = reason is FinishReason.STOP and not self._ended
        return TokenEvent(num_generated=self._num_tokens + unseen_end, finish_reason=reason)
