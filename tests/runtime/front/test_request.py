"""What a request's tensors mean, and what is refused in which words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from llmjp_runtime.executor.protocol import Feature
from llmjp_runtime.front.request import (
    RANGES,
    ClientRequest,
    Code,
    ReadyRequest,
    RequestError,
    StopRequest,
    apply_nvidia_defaults,
    parse_command,
    parse_request,
)
from llmjp_runtime.front.tensors import INPUTS, NVIDIA_INPUTS
from llmjp_runtime.settings import SamplingDefaults

DEFAULTS = SamplingDefaults()


def tensors(**values: Any) -> dict[str, Any]:
    """Arrays as Triton hands them over, for one request."""
    types = {"STRING": np.object_, "INT32": np.int32, "UINT64": np.uint64, "FP32": np.float32}
    types |= {"BOOL": np.bool_, "FP16": np.float16}
    specs = {spec.name: spec for spec in INPUTS}
    arrays = {}
    for name, value in values.items():
        row = value if isinstance(value, list) else [value]
        arrays[name] = np.array([row], types[specs[name].data_type])
    return arrays


def generate(**values: Any) -> ClientRequest:
    return parse_request(tensors(**{"text_input": b"a", **values}), DEFAULTS)


def refusal(**values: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse_request(tensors(**values), DEFAULTS)
    return caught.value


def test_the_model_cards_settings_hold_where_nothing_is_said() -> None:
    request = generate()
    assert (request.temperature, request.top_p, request.top_k) == (
        0.7,
        0.95,
        0,
    )
    assert request.repetition_penalty == 1.05
    assert request.max_tokens is None
    assert not request.stream
    assert not request.include_prompt


def test_given_values_are_taken() -> None:
    request = generate(
        max_tokens=7,
        temperature=0.5,
        top_k=3,
        seed=2**64 - 1,
        stop_words=[b"\xe3\x80\x82", b""],
        embedding_bias_words=[b"x"],
        embedding_bias_weights=[-2.0],
        stream=True,
        exclude_input_in_output=False,
    )
    assert (
        request.max_tokens,
        request.temperature,
        request.top_k,
        request.seed,
    ) == (7, 0.5, 3, 2**64 - 1)
    assert request.stop_words == ("。".encode(),)
    assert request.embedding_bias == ((b"x", -2.0),)
    assert request.stream
    assert request.include_prompt


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", math.nan),
        ("temperature", -0.1),
        ("temperature", math.inf),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("top_k", -1),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", math.nan),
        ("repetition_penalty", 1e-44),
        ("repetition_penalty", 1e38),
        ("max_tokens", 0),
        ("max_tokens", -5),
        ("min_tokens", -1),
        ("presence_penalty", math.nan),
        ("end_id", -1),
    ],
)
def test_values_out_of_range_name_the_tensor_and_the_range(name: str, value: float) -> None:
    error = refusal(text_input=b"a", **{name: value})
    assert error.code is Code.INVALID_ARGUMENT
    assert str(error).startswith(f"[invalid_argument] {name}: must be {RANGES[name]}, found ")


def test_ranges_read_as_a_person_writes_them() -> None:
    assert str(RANGES["top_p"]) == "in (0, 1]"
    assert str(RANGES["max_tokens"]) == ">= 1"
    assert str(RANGES["repetition_penalty"]) == "in [1e-06, 1e+06]"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"text_input": b"a", "messages": b"[]"},
        {"text_input": b"a", "input_ids": [1]},
        {"messages": b"[]", "input_ids": [1]},
    ],
)
def test_exactly_one_prompt(given: dict[str, Any]) -> None:
    assert "exactly one of text_input, messages, input_ids" in str(refusal(**given))


@pytest.mark.parametrize("name", ["text_input", "messages"])
def test_an_empty_prompt_is_refused(name: str) -> None:
    assert str(refusal(**{name: b""})) == f"[invalid_argument] {name}: must not be empty"


def test_stop_needs_no_prompt() -> None:
    assert parse_command(tensors(stop=True)) == StopRequest()
    assert parse_command(tensors(ready=True)) == ReadyRequest()
    assert parse_command(tensors(stop=False, ready=False, text_input=b"a")) is None
    assert parse_command(tensors(text_input=b"a")) is None


@pytest.mark.parametrize(
    ("name", "neutral", "asking"),
    [
        ("beam_width", 1, 4),
        ("num_return_sequences", 1, 2),
        ("length_penalty", 1.0, 0.5),
        ("return_context_logits", False, True),
        ("return_generation_logits", False, True),
        ("return_perf_metrics", False, True),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(name: str, neutral: Any, asking: Any) -> None:
    generate(**{name: neutral})
    error = refusal(text_input=b"a", **{name: asking})
    assert error.code is Code.UNIMPLEMENTED
    assert str(error).startswith(f"[unimplemented] {name}: ")


def test_every_tensor_of_nvidias_ensemble_is_taken_or_refused_by_name() -> None:
    for spec in NVIDIA_INPUTS:
        value = {"STRING": b"x", "BOOL": False}.get(spec.data_type, 1)
        given = tensors(**{"text_input": b"a", spec.name: value})
        if spec.name.startswith("embedding_bias"):
            given |= tensors(embedding_bias_words=[b"x"], embedding_bias_weights=[1.0])
        try:
            parse_request(given, DEFAULTS)
        except RequestError as error:
            assert str(error).startswith(f"[unimplemented] {spec.name}: ")  # noqa: PT017


def test_bias_words_and_weights_must_match() -> None:
    assert "found 0 for 1 words" in str(refusal(text_input=b"a", embedding_bias_words=[b"x"]))


def test_batches_are_refused() -> None:
    given = {"text_input": np.array([[b"a"], [b"b"]], np.object_)}
    with pytest.raises(RequestError, match=r"batch 1 is needed, found shape \[2, 1\]"):
        parse_request(given, DEFAULTS)


def test_needed_features_name_their_tensor() -> None:
    assert generate().list_needed_features() == {}
    request = generate(bad_words=[b"x"], return_log_probs=True)
    assert request.list_needed_features() == {
        Feature.BAD_WORDS: "bad_words",
        Feature.LOG_PROBS: "return_log_probs",
    }


def test_nvidias_defaults_are_greedy_with_the_prompt() -> None:
    request = parse_request(apply_nvidia_defaults(tensors(text_input=b"a", max_tokens=3)), DEFAULTS)
    assert (
        request.top_k,
        request.temperature,
        request.repetition_penalty,
    ) == (1, 1.0, 1.0)
    assert request.include_prompt


def test_nvidias_defaults_yield_to_what_is_given() -> None:
    given = tensors(text_input=b"a", top_p=0.5, exclude_input_in_output=True)
    request = parse_request(apply_nvidia_defaults(given), DEFAULTS)
    assert (request.top_k, request.top_p) == (0, 0.5)
    assert not request.include_prompt


@pytest.mark.parametrize("unset", [0.0, -1.0])
def test_what_nvidias_clients_send_without_meaning_it(unset: float) -> None:
    """Their default of top_p, and length_penalty without beams."""
    given = tensors(text_input=b"a", top_p=unset, length_penalty=0.5, beam_width=1)
    request = parse_request(apply_nvidia_defaults(given), DEFAULTS)
    assert (request.top_k, request.top_p) == (1, 1.0)
    asking = apply_nvidia_defaults(tensors(text_input=b"a", length_penalty=0.5, beam_width=4))
    with pytest.raises(RequestError, match="beam_width"):
        parse_request(asking, DEFAULTS)


def test_no_refusal_repeats_a_text() -> None:
    secret = "ひみつ"
    error = refusal(text_input=secret.encode(), messages=secret.encode(), max_tokens=0)
    assert secret not in str(error)
