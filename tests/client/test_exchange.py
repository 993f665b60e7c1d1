"""The course of a request, without a network: responses in, decisions out."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from llmjp_client import (
    Cancelled,
    Chunk,
    DeadlineExceeded,
    LlmJpError,
    Overloaded,
    ProtocolError,
    Unavailable,
    Usage,
)
from llmjp_client._exchange import Exchange, RetryBudget, RetryPolicy
from llmjp_client._tensors import pack


def exchange(
    *, retries: int = 2, timeout_s: float | None = None, budget: RetryBudget | None = None
) -> Exchange:
    return Exchange(
        pb.ModelInferRequest(id="r1"),
        endpoint="host:1",
        retry_policy=RetryPolicy(retries, initial_s=1.0, max_s=4.0),
        timeout_s=timeout_s,
        retry_budget=budget,
    )


def response(
    text: str | None = None,
    *,
    reason: str = "",
    usage: Usage | None = None,
    final: bool = False,
) -> pb.ModelStreamInferResponse:
    message = pb.ModelStreamInferResponse()
    body = message.infer_response
    body.parameters["triton_final_response"].bool_param = final
    outputs: list[tuple[str, Any, Any]] = []
    if text is not None:
        outputs += [("text_output", "BYTES", text), ("finish_reason", "BYTES", reason)]
    if usage:
        outputs += [
            ("num_input_tokens", "INT32", usage.input_tokens),
            ("num_output_tokens", "INT32", usage.output_tokens),
        ]
    for name, datatype, value in outputs:
        body.outputs.add(name=name, datatype=datatype, shape=[1, 1])
        body.raw_output_contents.append(pack(datatype, [value]))
    return message


LAST = response("す", reason="stop", usage=Usage(3, 4), final=True)


class Broken(grpc.RpcError):  # type: ignore[misc]
    """A call's end, as grpc raises it."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__()
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "broken"


UNAVAILABLE = Broken(grpc.StatusCode.UNAVAILABLE)
RETRIED = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}
FULL = Overloaded("128 requests are running or waiting: try again later")
FULL_FOR_3_S = Overloaded("128 requests are running or waiting: try again in 3 s")


@pytest.mark.parametrize(
    "end",
    [
        [LAST],
        [response("す", reason="stop", usage=Usage(3, 4)), response(final=True)],
        [response("す"), response("", reason="stop", usage=Usage(3, 4), final=True)],
    ],
    ids=["marked last response", "empty final response", "nothing new at the end"],
)
def test_a_reply(end: list[pb.ModelStreamInferResponse]) -> None:
    talk = exchange()
    chunks = [talk.receive(message) for message in [response("で"), response(""), *end]]
    assert "".join(chunk.text for chunk in chunks if chunk) == talk.text == "です"
    assert [talk.ended, talk.receive(None), talk.ended] == [False, None, True]
    reply = talk.build_reply()
    assert (reply.text, reply.finish_reason, reply.usage) == ("です", "stop", Usage(3, 4))
    assert reply.request_id == "r1"


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "without its final response"),
        ([response("で", reason="stop", usage=Usage(1, 1))], "without its final response"),
        ([response("で", usage=Usage(1, 1), final=True)], "without finish_reason"),
        ([response("で", reason="stop", final=True)], "without num_input_tokens"),
    ],
)
def test_an_end_that_is_no_reply(messages: list[Any], reason: str) -> None:
    talk = exchange()
    for message in messages:
        talk.receive(message)
    with pytest.raises(ProtocolError, match=reason) as unfit:
        talk.receive(None)
    with pytest.raises(ProtocolError) as raised:
        talk.recover(unfit.value, now=0, chance=0)
    assert raised.value is unfit.value
    assert raised.value.partial_text == ("で" if messages else "")
    assert talk.ended


def test_a_deadline_noticed_by_the_server_looks_like_one_noticed_here() -> None:
    talk = exchange()
    talk.receive(response("途中", reason="deadline", usage=Usage(1, 2), final=True))
    with pytest.raises(DeadlineExceeded) as late:
        talk.receive(None)
    with pytest.raises(DeadlineExceeded) as raised:
        talk.recover(late.value, now=0, chance=0)
    assert raised.value.partial_text == "途中"


def test_a_connection_that_breaks_after_the_reply_does_not_spoil_it() -> None:
    talk = exchange()
    talk.receive(LAST)
    assert talk.recover(UNAVAILABLE, now=0, chance=0) is None
    assert talk.ended
    assert talk.build_reply().text == "す"


def test_a_connection_that_breaks_after_a_late_reply() -> None:
    talk = exchange()
    talk.receive(response("途中", reason="deadline", usage=Usage(1, 2), final=True))
    with pytest.raises(DeadlineExceeded):
        talk.recover(UNAVAILABLE, now=0, chance=0)


def test_an_unanswered_request_is_sent_again_and_then_given_up() -> None:
    talk = exchange(retries=2)
    assert talk.recover(UNAVAILABLE, now=0, chance=0) == 0.5
    assert talk.recover(UNAVAILABLE, now=0, chance=0) == 1.0
    with pytest.raises(Unavailable, match="host:1: broken") as raised:
        talk.recover(UNAVAILABLE, now=0, chance=0)
    assert raised.value.__cause__ is UNAVAILABLE
    assert raised.value.request_id == "r1"


def test_each_attempt_has_an_id_of_its_own_and_the_same_request() -> None:
    talk = exchange(retries=2, timeout_s=60)
    sent = []
    for _ in range(3):
        sent.append(talk.start_attempt(0.0)[0])
        assert talk.request_id == sent[-1].id
        if len(sent) < 3:
            talk.recover(UNAVAILABLE, now=0, chance=0)
    assert [message.id for message in sent] == ["r1", "r1.2", "r1.3"]
    assert sent[2].parameters == sent[0].parameters
    talk.receive(LAST)
    talk.receive(None)
    assert talk.build_reply().request_id == "r1.3"


@pytest.mark.parametrize(
    ("error", "delays"), [(FULL, [0.25, 0.5, 1.0]), (FULL_FOR_3_S, [3.0, 3.0, 3.0])]
)
def test_an_overloaded_server_gets_the_time_it_asks_for(
    error: Overloaded, delays: list[float]
) -> None:
    talk = exchange(retries=3)
    assert [talk.recover(error, now=0, chance=0) for _ in range(3)] == delays
    with pytest.raises(Overloaded):
        talk.recover(error, now=0, chance=0)


def test_an_overloaded_server_is_not_waited_for_beyond_the_deadline() -> None:
    talk = exchange(timeout_s=2.5)
    talk.start_attempt(0.0)
    with pytest.raises(Overloaded) as raised:
        talk.recover(FULL_FOR_3_S, now=0, chance=0)
    assert raised.value.retry_after == 3.0


def test_the_calls_of_a_client_share_the_retries_of_refused_requests() -> None:
    budget = RetryBudget(2)
    for _ in range(2):
        assert exchange(budget=budget).recover(FULL, now=0, chance=0) is not None
    with pytest.raises(Overloaded):
        exchange(budget=budget).recover(FULL, now=0, chance=0)
    # Another pod takes the place of one that ended: that is not the server's load.
    assert exchange(budget=budget).recover(UNAVAILABLE, now=0, chance=0) is not None
    answered = exchange(budget=budget)
    answered.receive(LAST)
    answered.receive(None)
    assert exchange(budget=budget).recover(FULL, now=0, chance=0) is not None


@given(st.integers(0, 100), st.floats(0, 1, exclude_max=True), st.floats(0, 100) | st.none())
def test_a_hint_is_a_lower_bound(attempt: int, chance: float, hint: float | None) -> None:
    delay = RetryPolicy(3).compute_overloaded_delay_s(attempt, chance, hint)
    assert (hint or 0) <= delay <= max(8.0, 1.5 * (hint or 0))


def test_nothing_is_sent_again_once_something_was_generated() -> None:
    talk = exchange()
    talk.receive(response("で"))
    with pytest.raises(Unavailable) as raised:
        talk.recover(UNAVAILABLE, now=0, chance=0)
    assert raised.value.partial_text == "で"


@pytest.mark.parametrize("code", set(grpc.StatusCode) - RETRIED)
def test_other_failures_are_final(code: grpc.StatusCode) -> None:
    with pytest.raises(LlmJpError):
        exchange().recover(Broken(code), now=0, chance=0)


def test_nothing_is_sent_again_once_it_is_cancelled() -> None:
    talk = exchange()
    talk.cancelled = True
    with pytest.raises(Cancelled) as raised:
        talk.recover(UNAVAILABLE, now=0, chance=0)
    assert raised.value.__cause__ is UNAVAILABLE


def test_no_retry_beyond_the_deadline() -> None:
    talk = exchange(timeout_s=10)
    talk.start_attempt(100.0)
    assert talk.recover(UNAVAILABLE, now=109.4, chance=0) == 0.5
    with pytest.raises(Unavailable):
        talk.recover(UNAVAILABLE, now=109.4, chance=0)


def test_the_deadline_counts_from_the_first_attempt() -> None:
    talk = exchange(timeout_s=10)
    assert talk.start_attempt(100.0)[1] == 10
    message, left = talk.start_attempt(107.5)
    assert left == 2.5
    assert message.parameters["timeout"].int64_param == 2_500_000
    message, left = talk.start_attempt(999.0)
    assert left == 0
    # 0 would mean no deadline to Triton.
    assert message.parameters["timeout"].int64_param == 1


def test_without_a_deadline_none_is_sent() -> None:
    message, left = exchange(timeout_s=None).start_attempt(0.0)
    assert left is None
    assert "timeout" not in message.parameters


@given(st.integers(0, 100), st.floats(0, 1, exclude_max=True))
def test_waits_grow_to_a_bound_and_keep_half_of_it(attempt: int, chance: float) -> None:
    policy = RetryPolicy(3, initial_s=0.1, max_s=2.0)
    delay = policy.compute_delay_s(attempt, chance)
    whole = min(2.0, 0.1 * 2**attempt)
    assert whole / 2 <= delay <= whole
    assert policy.compute_delay_s(attempt + 1, chance) >= delay


def test_chunks_with_ids_alone_count() -> None:
    talk = exchange()
    message = response("")
    message.infer_response.outputs.add(name="output_ids", datatype="INT32", shape=[1, 1])
    message.infer_response.raw_output_contents.append(pack("INT32", [7]))
    assert talk.receive(message) == Chunk(output_ids=(7,))
