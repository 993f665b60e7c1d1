"""Both clients against a real gRPC server in this process."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from llmjp_client import (
    Chunk,
    DeadlineExceeded,
    InvalidRequest,
    LlmJpError,
    NotPermitted,
    Overloaded,
    ServerError,
    Unavailable,
    Usage,
)
from llmjp_client.testing import FakeRequest, FakeServer, InBandError, StatusError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Connect

PIECES = ["日本", "の首都", "は", "東京🗼", "𠮷", "です。\n"]
UNAVAILABLE = StatusError(grpc.StatusCode.UNAVAILABLE, "draining")


def until_cancelled(request: FakeRequest) -> Iterator[str]:
    yield "途中"
    request.cancelled.wait(10)


@pytest.mark.parametrize("separate_final", [False, True])
def test_a_stream_gives_each_piece_in_order(connect: Connect, separate_final: bool) -> None:
    with FakeServer(PIECES, separate_final=separate_final) as server:
        with connect(server.endpoint).stream("首都は", max_tokens=8) as stream:
            *chunks, last = stream
            assert [chunk.text for chunk in chunks] == PIECES
            assert last == Chunk(finish_reason="stop")
            assert (stream.text, stream.finish_reason) == ("".join(PIECES), "stop")
            assert stream.usage == Usage(3, 6)
            assert stream.reply().text == "".join(PIECES)
        assert not server.cancelled.is_set()
    (request,) = server.requests
    assert (request.prompt, request.streaming, request.options) == (
        "首都は",
        True,
        {"max_tokens": 8},
    )


@pytest.mark.parametrize("separate_final", [False, True])
def test_a_whole_reply(connect: Connect, separate_final: bool) -> None:
    messages = [{"role": "user", "content": "日本の首都はどこですか"}]
    with FakeServer(PIECES, separate_final=separate_final) as server:
        client = connect(server.endpoint, model="ensemble")
        reply = client.chat(messages, stop=["。"], seed=7, request_id="r7")
        assert (reply.text, reply.finish_reason, reply.usage) == (
            "".join(PIECES),
            "stop",
            Usage(1, 6),
        )
        assert client.generate([1, 2, 3]).usage.input_tokens == 3
    first, second = server.requests
    assert (first.request_id, first.model, first.streaming) == ("r7", "ensemble", False)
    assert first.prompt == tuple(messages)
    assert first.options == {"stop": ["。"], "seed": 7}
    assert second.prompt == (1, 2, 3)
    assert second.request_id not in {"", "r7"}


def test_a_chat_of_one_text_is_a_message_of_the_user(connect: Connect) -> None:
    with FakeServer(PIECES) as server:
        client = connect(server.endpoint)
        client.chat("日本の首都はどこですか")
        with pytest.raises(TypeError, match="decode text first"):
            client.generate("日本".encode())
    (request,) = server.requests
    assert request.prompt == ({"role": "user", "content": "日本の首都はどこですか"},)


def test_warnings_reach_the_caller(connect: Connect) -> None:
    with FakeServer([Chunk("a", warnings=("messages[0]: dropped",)), "b"]) as server:
        client = connect(server.endpoint)
        assert client.chat("x").warnings == ("messages[0]: dropped",)
        with client.stream("x") as stream:
            assert next(iter(stream)).warnings == stream.warnings == ("messages[0]: dropped",)
            assert stream.reply().warnings == stream.warnings
    with FakeServer(["a"]) as server:
        assert connect(server.endpoint).chat("x").warnings == ()


def test_ids_and_log_probs(connect: Connect) -> None:
    script = [Chunk("a", (1, 2), (-0.5, -1.0)), Chunk("b", (3,), (-2.0,), "length")]
    with FakeServer(script) as server:
        client = connect(server.endpoint)
        for reply in (client.generate("x"), client.generate("x", log_probs=True)):
            assert (reply.output_ids, reply.log_probs) == ((1, 2, 3), (-0.5, -1.0, -2.0))
            assert (reply.finish_reason, reply.usage.output_tokens) == ("length", 3)
        with client.stream("x") as stream:
            assert list(stream) == script


def test_a_chunk_arrives_before_the_next_is_made(connect: Connect) -> None:
    with FakeServer(until_cancelled) as server, connect(server.endpoint).stream("x") as stream:
        assert next(stream).text == "途中"
        assert (stream.text, stream.finish_reason) == ("途中", None)


def test_leaving_the_block_cancels(connect: Connect) -> None:
    with FakeServer(until_cancelled) as server:
        with connect(server.endpoint).stream("x") as stream:
            next(stream)
            assert not server.cancelled.is_set()
        assert server.requests[0].cancelled.wait(10)


def test_leaving_the_block_by_an_error_cancels_too(connect: Connect) -> None:
    with FakeServer(until_cancelled) as server:
        with suppress(ZeroDivisionError), connect(server.endpoint).stream("x") as stream:
            next(stream)
            raise ZeroDivisionError
        assert server.cancelled.wait(10)


def test_a_stream_is_read_inside_its_block(connect: Connect) -> None:
    with FakeServer() as server:
        stream = connect(server.endpoint).stream("x")
        with pytest.raises(RuntimeError, match="inside its"):
            next(stream)
        assert server.requests == []


def test_the_deadline_reaches_the_server(connect: Connect) -> None:
    with FakeServer(until_cancelled) as server:
        client = connect(server.endpoint, timeout=60)
        with pytest.raises(DeadlineExceeded) as late, client.stream("x", timeout=0.3) as stream:
            stream.reply()
        (request,) = server.requests
        assert request.cancelled.wait(10)
    assert late.value.partial_text == "途中"
    assert request.timeout_us is not None
    assert 0 < request.timeout_us <= 300_000


def test_a_deadline_noticed_by_the_server(connect: Connect) -> None:
    script = [Chunk("途中", finish_reason="deadline")]
    with FakeServer(script) as server, pytest.raises(DeadlineExceeded) as late:
        connect(server.endpoint).generate("x", timeout=60)
    assert late.value.partial_text == "途中"


@pytest.mark.parametrize(
    ("failure", "kind", "reason"),
    [
        (InBandError("[internal] out of memory"), ServerError, "out of memory"),
        (InBandError("[invalid_argument] top_p: 2"), InvalidRequest, "top_p: 2"),
        (StatusError(grpc.StatusCode.INTERNAL, "crash"), ServerError, "crash"),
        (UNAVAILABLE, Unavailable, "draining"),
    ],
)
def test_an_error_in_mid_stream_keeps_what_came(
    connect: Connect, failure: Exception, kind: type[LlmJpError], reason: str
) -> None:
    def script(request: FakeRequest) -> Iterator[str]:
        yield "ここ"
        yield "まで"
        raise failure

    with FakeServer(script) as server:
        with connect(server.endpoint).stream("x", request_id="r1") as stream:
            assert [next(stream).text, next(stream).text] == ["ここ", "まで"]
            with pytest.raises(kind) as raised:
                next(stream)
        assert len(server.requests) == 1
    error = raised.value
    assert (error.reason, error.partial_text) == (reason, "ここまで")
    assert (error.endpoint, error.request_id) == (server.endpoint, "r1")


def failing(times: int, failure: Exception) -> Any:
    failures = iter([failure] * times)

    def script(request: FakeRequest) -> Iterator[str]:
        for error in failures:
            raise error
        yield "ok"

    return script


@pytest.mark.parametrize("failure", [UNAVAILABLE, InBandError("[unavailable] loading")])
def test_a_request_that_nobody_answered_is_sent_again(connect: Connect, failure: Exception) -> None:
    with FakeServer(failing(2, failure)) as server:
        assert connect(server.endpoint).generate("x", timeout=60).text == "ok"
    ids = {request.request_id for request in server.requests}
    assert (len(server.requests), len(ids)) == (3, 3)


def test_the_request_that_was_lost_on_the_way_does_not_refuse_the_next(connect: Connect) -> None:
    running = set[str]()

    def script(request: FakeRequest) -> Iterator[str]:
        if request.request_id in running:
            raise InBandError("[invalid_argument] request id: a running request has this id")
        running.add(request.request_id)  # and still is when the client has lost it
        if len(running) == 1:
            raise UNAVAILABLE
        yield "ok"

    with FakeServer(script) as server:
        assert connect(server.endpoint).generate("x", request_id="r7").request_id == "r7.2"


@pytest.mark.parametrize(
    "failure",
    [
        StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, "full: try again in 0.1 s"),
        InBandError("[resource_exhausted] full: try again later"),
    ],
)
def test_a_refused_request_is_sent_again(connect: Connect, failure: Exception) -> None:
    with FakeServer(failing(1, failure)) as server:
        assert connect(server.endpoint).generate("x", timeout=60).text == "ok"
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("settings", "failure", "kind"),
    [
        ({"retries": 0}, UNAVAILABLE, Unavailable),
        ({"retries": 0}, StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED), Overloaded),
        ({}, InBandError("[invalid_argument] x"), InvalidRequest),
    ],
)
def test_what_is_not_sent_again(
    connect: Connect, settings: dict[str, Any], failure: Exception, kind: type[LlmJpError]
) -> None:
    with FakeServer(failing(1, failure)) as server, pytest.raises(kind):
        connect(server.endpoint, **settings).generate("x")
    assert len(server.requests) == 1


def test_a_server_that_stops_in_mid_stream(connect: Connect) -> None:
    with FakeServer(until_cancelled) as server, connect(server.endpoint).stream("x") as stream:
        next(stream)
        server.stop()
        with pytest.raises(LlmJpError) as raised:
            next(stream)
    assert raised.value.partial_text == "途中"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def test_nobody_at_the_endpoint(connect: Connect) -> None:
    endpoint = f"localhost:{free_port()}"
    client = connect(endpoint, retries=1)
    with pytest.raises(Unavailable, match=f"^{endpoint}: .*check that the server is running"):
        client.generate("x")
    assert not client.is_ready()


def test_a_server_that_starts_late_is_waited_for(connect: Connect) -> None:
    answers = iter([False, False, True])
    with FakeServer(ready=lambda: next(answers)) as server:
        connect(server.endpoint).wait_until_ready(timeout=60)
    assert next(answers, None) is None


def test_readiness(connect: Connect) -> None:
    with FakeServer() as server:
        assert connect(server.endpoint).is_ready()
    with FakeServer(ready=False) as server:
        client = connect(server.endpoint)
        assert not client.is_ready()
        with pytest.raises(Unavailable, match=r"not ready after 0.1 s: .* model 'llmjp' is not"):
            client.wait_until_ready(timeout=0.1)


def test_a_model_that_does_not_know_the_question_is_judged_by_triton(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = "unexpected inference input 'ready' for model 'llmjp'"
    monkeypatch.setattr(
        "llmjp_client.testing._Service._answer_ready",
        lambda *_: pb.ModelStreamInferResponse(error_message=unknown),
    )
    with FakeServer() as server:
        assert connect(server.endpoint).is_ready()
    with FakeServer(ready=False) as server:
        assert not connect(server.endpoint).is_ready()


def test_why_a_model_is_not_ready_is_said(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "[request id: 1] [unavailable] no heartbeat for 6.1 s"
    monkeypatch.setattr(
        "llmjp_client.testing._Service._answer_ready",
        lambda *_: pb.ModelStreamInferResponse(error_message=said),
    )
    with FakeServer() as server:
        client = connect(server.endpoint)
        assert not client.is_ready()
        with pytest.raises(Unavailable, match=r"'llmjp' is not ready: no heartbeat for 6.1 s"):
            client.wait_until_ready(timeout=0.1)
        assert server.requests == []


def test_waiting_ends_where_it_would_not_help(connect: Connect) -> None:
    def refuse() -> bool:
        raise StatusError(grpc.StatusCode.UNAUTHENTICATED, "no token")

    with FakeServer(ready=refuse) as server, pytest.raises(NotPermitted, match="no token"):
        connect(server.endpoint).wait_until_ready(timeout=60)


def test_metadata_and_user_agent(connect: Connect) -> None:
    with FakeServer() as server:
        connect(server.endpoint, metadata={"Authorization": "Bearer t"}).generate("x")
    metadata = server.requests[0].metadata
    assert metadata["authorization"] == "Bearer t"
    assert metadata["user-agent"].startswith("llmjp-client/")


def test_metadata_of_a_call_and_a_fresh_token_for_each_attempt(connect: Connect) -> None:
    tokens = iter(["t1", "t2", "t3"])
    with FakeServer(failing(1, UNAVAILABLE)) as server:
        client = connect(
            server.endpoint, metadata={"Tenant": "a", "team": "x"}, token=lambda: next(tokens)
        )
        client.generate("x", metadata={"tenant": "b"}, timeout=60)
        client.generate("x", metadata={"Authorization": "Basic y"})
    sent = [request.metadata for request in server.requests]
    assert [m["authorization"] for m in sent] == ["Bearer t1", "Bearer t2", "Basic y"]
    assert [(m["tenant"], m["team"]) for m in sent] == [("b", "x"), ("b", "x"), ("a", "x")]


def test_a_token_that_cannot_be_had_is_the_callers_error(connect: Connect) -> None:
    def fail() -> str:
        raise PermissionError("no token")

    with FakeServer() as server, pytest.raises(PermissionError, match="no token"):
        connect(server.endpoint, token=fail).generate("x")
    assert server.requests == []


def test_a_closed_client_says_so(connect: Connect) -> None:
    with FakeServer() as server:
        client = connect(server.endpoint)
        client.generate("x")
        client.close()
        client.close()
        for use in (lambda: client.generate("x"), client.is_ready):
            with pytest.raises(RuntimeError, match="the client is closed"):
                use()
    assert len(server.requests) == 1


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_proxy_is_never_asked_for_this_machine(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://localhost:{free_port()}")
    for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with FakeServer() as server:
        port = server.endpoint.rpartition(":")[2]
        client = connect(f"{host}:{port}", retries=0)
        assert client.is_ready()
        assert client.generate("x").text


def test_large_messages(connect: Connect) -> None:
    piece = "長" * (3 << 20)
    with FakeServer([piece]) as server:
        assert connect(server.endpoint).generate("問" * (1 << 20)).text == piece
    assert len(server.requests[0].prompt) == 1 << 20


def test_no_deadline(connect: Connect) -> None:
    with FakeServer() as server:
        connect(server.endpoint, timeout=None).generate("x")
    assert server.requests[0].timeout_us is None
