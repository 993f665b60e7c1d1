"""Requests as tensors, and responses as events."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmjp_runtime.errors import RequestRefused
from llmjp_runtime.executor.protocol import FinishReason, GenerationRequest, SamplingParams
from llmjp_runtime.executor.tensorrt.messages import (
    EngineReply,
    check_engine_limits,
    encode_request,
    encode_stop,
    encode_words,
)
from llmjp_runtime.executor.tensorrt.tensors import ENGINE_INPUTS

from .test_model_config import ENGINE

VOCAB = 50
NUMPY = {"INT32": np.int32, "FP32": np.float32, "UINT64": np.uint64, "BOOL": np.bool_}


def asked(
    prompt: tuple[int, ...] = (1, 7, 8), *, log_probs: bool = False, **sampling: Any
) -> GenerationRequest:
    params = SamplingParams(**{"max_tokens": 5} | sampling)
    return GenerationRequest(
        request_id="r1", prompt_ids=prompt, sampling=params, log_probs=log_probs
    )


def values(request: GenerationRequest) -> dict[str, Any]:
    """Scalars as values, the others as lists."""
    tensors = encode_request(request, VOCAB)
    return {
        name: array.item() if array.size == 1 else array[0].tolist()
        for name, array in tensors.items()
    }


def test_what_every_request_sends() -> None:
    found = values(asked(end_ids=frozenset({2}), seed=2**63 + 1))
    assert found == {
        "input_ids": [1, 7, 8],
        "input_lengths": 3,
        "request_output_len": 5,
        "streaming": True,
        "exclude_input_in_output": True,
        "return_log_probs": False,
        "end_id": 2,
        "pad_id": 2,
        "runtime_top_k": 0,
        "runtime_top_p": 1.0,
        "temperature": 1.0,
        "seed": 2**63 + 1,
    }


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ({"temperature": 0.0}, {"runtime_top_k": 1, "runtime_top_p": 1.0}),
        ({"top_k": 1, "top_p": 0.5}, {"runtime_top_k": 1, "runtime_top_p": 1.0}),
        ({"top_k": 40, "top_p": 0.5}, {"runtime_top_k": 40, "runtime_top_p": 0.5}),
        ({"temperature": 0.5}, {"temperature": 0.5}),
        ({"repetition_penalty": 1.5}, {"repetition_penalty": 1.5}),
        ({"presence_penalty": -0.5}, {"presence_penalty": -0.5}),
        ({"frequency_penalty": 0.5}, {"frequency_penalty": 0.5}),
        ({"min_tokens": 3}, {"min_tokens": 3}),
        ({"bad_words": ((5,), (6, 7))}, {"bad_words_list": [[5, 6, 7], [1, 3, -1]]}),
        ({"end_ids": frozenset({9, 4})}, {"end_id": 4, "stop_words_list": [[9], [1]]}),
    ],
)
def test_sampling(sampling: dict[str, Any], expected: dict[str, Any]) -> None:
    found = values(asked(**sampling))
    assert {name: found[name] for name in expected} == expected


def test_greedy_by_temperature_sends_none_because_zero_is_not_allowed() -> None:
    assert "temperature" not in values(asked(temperature=0.0))


def test_a_reply_without_end_ids_sends_none() -> None:
    assert "end_id" not in values(asked())


def test_without_a_seed_each_request_draws_its_own() -> None:
    assert len({values(asked())["seed"] for _ in range(8)}) == 8


def test_a_bias_is_dense() -> None:
    (bias,) = encode_request(asked(embedding_bias=((3, 1.5), (3, 1.0), (49, -2.0))), VOCAB)[
        "embedding_bias"
    ]
    assert bias.shape == (VOCAB,)
    assert {int(i): float(bias[i]) for i in np.flatnonzero(bias)} == {3: 2.5, 49: -2.0}


FULL = asked(
    log_probs=True,
    min_tokens=1,
    repetition_penalty=2.0,
    presence_penalty=1.0,
    frequency_penalty=1.0,
    bad_words=((5,), (6, 7)),
    embedding_bias=((3, 1.0),),
    end_ids=frozenset({2, 3}),
)


@pytest.mark.parametrize("tensors", [encode_request(FULL, VOCAB), encode_stop()])
def test_tensors_are_as_declared(tensors: dict[str, Any]) -> None:
    declared = {tensor.name: tensor for tensor in ENGINE_INPUTS}
    for name, array in tensors.items():
        spec = declared[name]
        assert array.dtype == NUMPY[spec.data_type], name
        assert array.shape[0] == 1
        pairs = zip(array.shape[1:], spec.dims, strict=True)
        assert all(dim in {-1, size} for size, dim in pairs), name
    required = {tensor.name for tensor in ENGINE_INPUTS if not tensor.optional}
    assert required <= set(tensors)


@given(st.lists(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=5), max_size=6))
def test_a_word_list_gives_its_words_back(words: list[list[int]]) -> None:
    ((ids, ends),) = encode_words(words)
    assert len(ids) == len(ends) == sum(map(len, words))
    offsets = [0, *(int(end) for end in ends if end != -1)]
    found = [ids[a:b].tolist() for a, b in itertools.pairwise(offsets)]
    assert found == words
    assert all(end == -1 for end in ends[len(words) :])


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (asked(top_k=1025), "top_k: must be at most 1024"),
        (asked(min_tokens=1, end_ids=frozenset({2, 3})), "one end id only"),
    ],
)
def test_what_the_model_cannot_do(request_: GenerationRequest, says: str) -> None:
    check_engine_limits(asked(top_k=1024), ENGINE)
    with pytest.raises(RequestRefused, match=says):
        check_engine_limits(request_, ENGINE)


def test_a_prompt_that_must_be_read_at_once() -> None:
    engine = replace(ENGINE, paged_context=False, max_num_tokens=2)
    with pytest.raises(RequestRefused, match="3 tokens, but the engine reads at most 2 at once"):
        check_engine_limits(asked(), engine)
    check_engine_limits(asked(), ENGINE)


def outputs(*ids: int, log_probs: list[float] | None = None, padding: int = 0) -> dict[str, Any]:
    """A response as the backend makes it: rows may be padded with -1."""
    made: dict[str, Any] = {
        "output_ids": np.array([[[*ids, *[-1] * padding]]], np.int32),
        "sequence_length": np.array([[len(ids)]], np.int32),
    }
    if log_probs is not None:
        made["output_log_probs"] = np.array([[log_probs]], np.float32)
    return made


def folded(request: GenerationRequest, *responses: dict[str, Any], cancelled: bool = False) -> Any:
    """(ids, num_generated, finish_reason) of all responses and the end."""
    reply = EngineReply(request)
    events = [event for each in responses if (event := reply.feed(each)) is not None]
    final = reply.end(cancelled=cancelled)
    counts = [event.num_generated for event in events]
    assert counts == sorted(counts)
    ids = [token for event in events for token in event.token_ids]
    return ids, final.num_generated, final.finish_reason


END: dict[str, Any] = {"end_ids": frozenset({2})}


@pytest.mark.parametrize(
    ("responses", "cancelled", "expected"),
    [
        ([outputs(5), outputs(6), outputs()], False, ([5, 6], 3, FinishReason.STOP)),
        ([outputs(5), outputs(6, 2)], False, ([5, 6], 3, FinishReason.STOP)),
        ([outputs(5, 6, padding=2)], False, ([5, 6], 3, FinishReason.STOP)),
        ([outputs(5, 6, 7), outputs(8, 9)], False, ([5, 6, 7, 8, 9], 5, FinishReason.LENGTH)),
        ([outputs(5, 6, 7, 8), outputs(2)], False, ([5, 6, 7, 8], 5, FinishReason.STOP)),
        ([outputs(5), outputs()], True, ([5], 1, FinishReason.CANCELLED)),
        ([outputs(5, 6, 7, 8, 9)], True, ([5, 6, 7, 8, 9], 5, FinishReason.LENGTH)),
        ([outputs(5, 2)], True, ([5], 2, FinishReason.STOP)),
        ([{}], True, ([], 0, FinishReason.CANCELLED)),
        ([outputs(2), outputs(5)], False, ([], 1, FinishReason.STOP)),
    ],
)
def test_the_end_follows_from_what_was_asked(
    responses: list[dict[str, Any]], cancelled: bool, expected: Any
) -> None:
    assert folded(asked(**END), *responses, cancelled=cancelled) == expected


def test_without_end_ids_a_reply_ends_by_its_length() -> None:
    assert folded(asked(), outputs(5, 2)) == ([5, 2], 2, FinishReason.LENGTH)


@pytest.mark.parametrize("whole", [True, False], ids=["of the reply", "of the response"])
def test_log_probs_are_those_of_the_new_ids(whole: bool) -> None:
    reply = EngineReply(asked(log_probs=True, **END))
    first = reply.feed(outputs(5, 6, log_probs=[-1.0, -2.0]))
    second = reply.feed(
        outputs(7, 2, log_probs=[-1.0, -2.0, -3.0, -4.0] if whole else [-3.0, -4.0])
    )
    assert first
    assert second
    assert (first.log_probs, second.log_probs) == ((-1.0, -2.0), (-3.0,))


def test_no_log_probs_unless_asked_for() -> None:
    event = EngineReply(asked()).feed(outputs(5, log_probs=[-1.0]))
    assert event
    assert event.log_probs is None
