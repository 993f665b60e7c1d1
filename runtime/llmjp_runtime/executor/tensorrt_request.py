"""A request as the tensors of the C++ model `tensorrt_llm`. Pure.

Rules: NVIDIA/TensorRT-LLM, triton_backend/inflight_batcher_llm/src/utils.cc (reading of tensors),
cpp/tensorrt_llm/kernels/{samplingTopKKernels,penaltyKernels}.cu (what the values do). In 1.2.1 that
reader hands `len_penalty`, `early_stopping` and `num_return_sequences` to the wrong arguments, so
they are never sent.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import numpy as np

from llmjp_runtime.errors import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from llmjp_runtime.executor.protocol import GenerationRequest, SamplingParams
    from llmjp_runtime.executor.tensorrt_config import EngineConfig

    Tensors = dict[str, NDArray[np.generic]]
    """Name to array, batch dimension included."""

TOP_K_LIMIT = 1024
"""The kernels' largest top_k."""


def check_for_engine(request: GenerationRequest, engine: EngineConfig) -> None:
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


def generation_tensors(request: GenerationRequest, vocab_size: int) -> Tensors:
    """The inputs that have the C++ model generate a streamed reply of new ids only."""
    sampling = request.sampling
    return {
        "input_ids": np.array([request.prompt_ids], np.int32),
        "input_lengths": _int(len(request.prompt_ids)),
        "request_output_len": _int(sampling.max_tokens),
        "streaming": np.array([[True]]),
        "exclude_input_in_output": np.array([[True]]),
        "return_log_probs": np.array([[request.log_probs]]),
        **_ends(sampling.end_ids),
        **_choice(sampling),
        **_constraints(sampling, vocab_size),
    }


def stop_tensors() -> Tensors:
    """The inputs that cancel the running request of the same id.

    Only `stop` is read; Triton itself insists on the two inputs that are not optional.
    """
    return {
        "stop": np.array([[True]]),
        "input_lengths": _int(1),
        "request_output_len": _int(1),
    }


def word_list(words: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    """[1, 2, N]: all ids, padded with 0, over the end offset of each word, padded with -1."""
    ids = [token for word in words for token in word]
    ends = np.cumsum([len(word) for word in words])
    table = np.array([[0] * len(ids), [-1] * len(ids)], np.int32)
    table[0, :] = ids
    table[1, : len(words)] = ends
    return table[np.newaxis]


def _ends(end_ids: Iterable[int]) -> Tensors:
    """One end id, of which the model never puts out a token; any others are stop words."""
    if not (ordered := sorted(end_ids)):
        return {}
    first, *others = ordered
    tensors: Tensors = {"end_id": _int(first), "pad_id": _int(first)}
    if others:
        tensors["stop_words_list"] = word_list([(token,) for token in others])
    return tensors


def _choice(sampling: SamplingParams) -> Tensors:
    """How an id is chosen. A seed is always sent: without one, the model takes the same again."""
    greedy = sampling.temperature == 0 or sampling.top_k == 1
    seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
    tensors: Tensors = {
        "runtime_top_k": _int(1 if greedy else sampling.top_k),
        "runtime_top_p": _float(1.0 if greedy else sampling.top_p),
        "seed": np.array([[seed]], np.uint64),
    }
    if sampling.temperature > 0:
        tensors["temperature"] = _float(sampling.temperature)
    return tensors


def _constraints(sampling: SamplingParams, vocab_size: int) -> Tensors:
    """What is left out where it asks for nothing, because it costs a kernel."""
    tensors: Tensors = {}
    if sampling.repetition_penalty != 1:
        tensors["repetition_penalty"] = _float(sampling.repetition_penalty)
    if sampling.presence_penalty:
        tensors["presence_penalty"] = _float(sampling.presence_penalty)
    if sampling.frequency_penalty:
        tensors["frequency_penalty"] = _float(sampling.frequency_penalty)
    if sampling.min_tokens:
        tensors["min_tokens"] = _int(sampling.min_tokens)
    if sampling.bad_words:
        tensors["bad_words_list"] = word_list(sampling.bad_words)
    if sampling.embedding_bias:
        bias = np.zeros((1, vocab_size), np.float32)
        for token, value in sampling.embedding_bias:
            bias[0, token] += value
        tensors["embedding_bias"] = bias
    return tensors


def _int(value: int) -> NDArray[np.generic]:
    return np.array([[value]], np.int32)


def _float(value: float) -> NDArray[np.generic]:
    return np.array([[value]], np.float32)
