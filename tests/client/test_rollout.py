"""Servers that end while others take over: what is sent again, where it goes, what stays."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from llmjp_client import Client, LlmJpError, Unavailable
from llmjp_client._channels import ChannelPool, PooledChannel
from llmjp_client.testing import FakeRequest, FakeServer, InBandError, StatusError
from tests.support.forwarder import Forwarder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Connect

REFUSALS = [
    InBandError("[unavailable] this server is about to end and takes no new requests"),
    InBandError("[request id: r1] Request for unknown model: 'llmjp' has no available versions"),
    InBandError("Stub process 'llmjp_0_0' is not healthy."),
    StatusError(grpc.StatusCode.UNAVAILABLE, "Connection reset by peer"),
]


class Old:
    """A script: one stream runs to its end, whatever comes once it began is refused."""

    def __init__(self, refusal: Exception) -> None:
        self.refusal = refusal
        self.go_on = threading.Event()
        self.running = False

    def __call__(self, request: FakeRequest) -> Iterator[str]:
        if self.running:
            raise self.refusal
        self.running = True
        yield "古い"
        assert self.go_on.wait(30)
        yield "まま"


@contextmanager
def rollout(refusal: Exception) -> Iterator[tuple[Old, FakeServer, FakeServer, Forwarder]]:
    old = Old(refusal)
    with (
        FakeServer(old) as before,
        FakeServer(["新しい"]) as after,
        Forwarder(before.endpoint) as service,
    ):
        yield old, before, after, service


@pytest.mark.parametrize("refusal", REFUSALS, ids=["draining", "ending", "dead", "reset"])
def test_what_a_server_refuses_another_answers(connect: Connect, refusal: Exception) -> None:
    with rollout(refusal) as (old, before, after, service):
        client = connect(service.endpoint, timeout=60)
        with client.stream("x") as running:
            assert next(running).text == "古い"
            service.target = after.endpoint
            # The connection leads to the old server for as long as it lives.
            assert client.generate("y").text == "新しい"
            with client.stream("z") as stream:
                assert stream.reply().text == "新しい"
            old.go_on.set()
            assert running.reply().text == "古いまま"
        assert [request.prompt for request in before.requests] == ["x", "y"]
        assert [request.prompt for request in after.requests] == ["y", "z"]
        assert service.connections == [before.endpoint, after.endpoint]


def test_nothing_is_sent_again_once_a_token_has_arrived(connect: Connect) -> None:
    def script(request: FakeRequest) -> Iterator[str]:
        yield "ここまで"
        raise REFUSALS[0]

    with FakeServer(script) as before, FakeServer() as after, Forwarder(before.endpoint) as service:
        with connect(service.endpoint).stream("x") as stream:
            assert next(stream).text == "ここまで"
            service.target = after.endpoint
            with pytest.raises(Unavailable) as raised:
                stream.reply()
        assert raised.value.partial_text == "ここまで"
        assert (len(before.requests), after.requests) == (1, [])


def test_each_attempt_has_a_connection_of_its_own(connect: Connect) -> None:
    def script(request: FakeRequest) -> Iterator[str]:
        yield from ()
        raise REFUSALS[0]

    with FakeServer(script) as server, Forwarder(server.endpoint) as service:
        with pytest.raises(Unavailable, match="about to end"):
            connect(service.endpoint, retries=2).generate("x")
        assert len(server.requests) == 3
        assert len(service.connections) == 3


def test_many_that_are_refused_at_once_share_the_new_connection() -> None:
    with rollout(REFUSALS[0]) as (old, _, after, service), Client(service.endpoint) as client:
        texts: list[Any] = []

        def ask(n: int) -> None:
            try:
                texts.append(client.generate(f"{n}番目").text)
            except LlmJpError as error:
                texts.append(error)

        with client.stream("x") as running:
            next(running)
            service.target = after.endpoint
            threads = [threading.Thread(target=ask, args=(n,)) for n in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            old.go_on.set()
            assert running.reply().text == "古いまま"
        assert texts == ["新しい"] * 16
        assert service.connections.count(after.endpoint) == 1


def make_pool() -> tuple[ChannelPool, list[str]]:
    """A pool whose channels are names, and the names so far."""
    made: list[str] = []

    def open_channel() -> PooledChannel:
        made.append(f"channel {len(made)}")
        return PooledChannel(made[-1], None)

    return ChannelPool(open_channel), made


def test_a_retired_channel_is_closed_when_its_last_call_ends() -> None:
    pool, made = make_pool()
    first, second = pool.acquire(), pool.acquire()
    assert first is second
    third = pool.acquire(instead_of=first)
    assert (third.channel, made) == ("channel 1", ["channel 0", "channel 1"])
    assert pool.release(first) is None
    assert pool.release(second) is second
    assert pool.release(third) is None, "new calls take it"


def test_a_channel_is_replaced_once_however_many_calls_it_failed() -> None:
    pool, made = make_pool()
    first, second = pool.acquire(), pool.acquire()
    assert pool.acquire(instead_of=first) is pool.acquire(instead_of=second)
    assert len(made) == 2


def test_closing_ends_old_and_new() -> None:
    pool, made = make_pool()
    first = pool.acquire()
    second = pool.acquire(instead_of=first)
    assert pool.take_all() == [first, second]
    assert pool.release(first) is None
    assert pool.take_all() == []
    assert len(made) == 2
