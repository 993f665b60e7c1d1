from __future__ import annotations

import pytest

from llmjp_runtime.front.parameters import (
    FORWARDED_HEADERS,
    MAX_TIMEOUT_US,
    OTHER_NAMES,
    TRITONS,
    check_parameters,
    check_timeout,
    find_trace_id,
    parse_parameters,
    select_headers,
)
from llmjp_runtime.front.request import InvalidArgument
from llmjp_runtime.front.tensors import INPUTS


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("temprature", "temperature"),
        ("max_token", "max_tokens"),
        ("max_new_tokens", "max_tokens"),
        ("request_output_len", "max_tokens"),
        ("random_seed", "seed"),
        ("runtime_top_k", "top_k"),
        ("runtime_top_p", "top_p"),
        ("topP", "top_p"),
        ("stop-words", "stop_words"),
        ("stop_sequences", "stop_words"),
        ("repetition_penality", "repetition_penalty"),
        ("prompt", "text_input"),
        ("message", "messages"),
    ],
)
def test_a_name_that_nothing_acts_on_is_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(InvalidArgument, match=f"'{name}': no such .*; did you mean {near}[?]$"):
        check_parameters(["timeout", name])


def test_without_a_near_one_all_are_named() -> None:
    with pytest.raises(InvalidArgument, match=r"'zzz': .* the inputs are messages, input_ids,"):
        check_parameters(["zzz"])


def test_a_name_is_quoted_short_and_in_ascii() -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_parameters(["ひ\n" * 1000])
    assert str(refused.value).isascii()
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("name", [*TRITONS, *FORWARDED_HEADERS, "Traceparent", "triton_new"])
def test_what_others_act_on_passes(name: str) -> None:
    check_parameters([name])


def test_advice_names_inputs_only() -> None:
    assert set(OTHER_NAMES.values()) <= {spec.name for spec in INPUTS}


def test_names_of_tritons_json() -> None:
    given = parse_parameters('{"timeout": 5, "temprature": "0.1"}')
    assert given == {"timeout": 5, "temprature": "0.1"}
    assert parse_parameters("") == parse_parameters("{}") == {}


TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("name", ["traceparent", "Traceparent"])
@pytest.mark.parametrize(
    "value", [f"00-{TRACE}-b7ad6b7169203331-01", f"cc-{TRACE}-b7ad6b7169203331-01-later"]
)
def test_a_trace_is_found(name: str, value: str) -> None:
    assert find_trace_id({"timeout": 5, name: value}) == TRACE


@pytest.mark.parametrize(
    "value",
    [
        "",
        7,
        TRACE,
        f"ff-{TRACE}-b7ad6b7169203331-01",
        f"00-{TRACE}-b7ad6b7169203331-01-more",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-b7ad6b7169203331-01",
    ],
)
def test_what_is_no_trace_is_ignored(value: object) -> None:
    assert find_trace_id({"traceparent": value}) is None


def test_headers_alone_are_passed_on() -> None:
    given = {"TraceState": "a=b", "baggage": "c", "timeout": 5, "x-request-id": 7}
    assert select_headers(given) == {"tracestate": "a=b", "baggage": "c"}


def test_a_negative_timeout_is_refused() -> None:
    check_timeout(MAX_TIMEOUT_US)
    with pytest.raises(InvalidArgument, match="timeout: must be >= 0"):
        check_timeout((1 << 64) - 5)
