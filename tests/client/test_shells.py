"""What only one of the two clients can do wrong, and what needs processes or certificates."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar, cast

import grpc
import pytest

from llmjp_client import TLS, AsyncClient, Cancelled, Client, Unavailable
from llmjp_client.testing import FakeRequest, FakeServer, InBandError
from tests.support.certificate import Certificate, self_signed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Connect

T = TypeVar("T")

KILLED = """
import sys, threading
from llmjp_client.testing import FakeServer
def script(request):
    yield "途中"
    threading.Event().wait()
with FakeServer(script) as server:
    print(server.endpoint, flush=True)
    sys.stdin.read()
"""


def until_cancelled(request: FakeRequest) -> Iterator[str]:
    yield "途中"
    request.cancelled.wait(10)


def echo(request: FakeRequest) -> Iterator[str]:
    yield from str(request.prompt)


def test_a_server_that_is_killed_in_mid_stream(connect: Connect) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        endpoint = process.stdout.readline().strip()
        with connect(endpoint, timeout=60).stream("x") as stream:
            next(stream)
            process.kill()
            with pytest.raises(Unavailable) as raised:
                next(stream)
    assert (raised.value.endpoint, raised.value.partial_text) == (endpoint, "途中")


def test_cancelling_from_another_thread() -> None:
    with FakeServer(until_cancelled) as server, Client(server.endpoint) as client:
        with client.stream("x") as stream, ThreadPoolExecutor() as pool:
            next(stream)
            reading = pool.submit(next, stream)
            stream.cancel()
            assert isinstance(reading.exception(10), Cancelled)
        assert server.cancelled.wait(10)


def test_cancelling_while_nobody_answers() -> None:
    with FakeServer() as server:
        endpoint = server.endpoint
    with Client(endpoint) as client, client.stream("x") as stream:
        stream.cancel()
        with pytest.raises(Cancelled):
            next(stream)


def test_one_client_for_many_threads() -> None:
    prompts = [f"{n}番目" for n in range(32)]
    with FakeServer(echo) as server, Client(server.endpoint) as client, ThreadPoolExecutor(8) as p:
        assert [reply.text for reply in p.map(client.generate, prompts)] == prompts


def test_many_requests_at_once_and_nothing_left_running() -> None:
    prompts = [f"{n}番目" for n in range(32)]

    async def ask(client: AsyncClient, prompt: str) -> str:
        async with client.stream(prompt) as stream:
            return (await stream.reply()).text

    async def main(endpoint: str) -> list[str]:
        async with AsyncClient(endpoint) as client:
            texts = await asyncio.gather(*(ask(client, prompt) for prompt in prompts))
            async with client.stream("left early") as stream:
                await anext(stream)
            # grpc's own record keeping of a call ends a moment after the call.
            if left := asyncio.all_tasks() - {asyncio.current_task()}:
                assert not (await asyncio.wait(left, timeout=10))[1]
            return texts

    with FakeServer(echo) as server:
        assert asyncio.run(main(server.endpoint)) == prompts


def test_a_cancelled_task_cancels_its_reply() -> None:
    async def main(server: FakeServer) -> None:
        reading = asyncio.Event()

        async def read(client: AsyncClient) -> None:
            async with client.stream("x") as stream:
                await anext(stream)
                reading.set()
                await anext(stream)

        async with AsyncClient(server.endpoint) as client:
            task = asyncio.create_task(read(client))
            await reading.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(server.cancelled.wait, 10)

    with FakeServer(until_cancelled) as server:
        asyncio.run(main(server))


def test_cancelling_from_another_task() -> None:
    async def main(server: FakeServer) -> None:
        async with AsyncClient(server.endpoint) as client, client.stream("x") as stream:
            await anext(stream)
            asyncio.get_running_loop().call_soon(stream.cancel)
            with pytest.raises(Cancelled) as raised:
                await anext(stream)
            assert raised.value.partial_text == "途中"

    with FakeServer(until_cancelled) as server:
        asyncio.run(main(server))


def test_closing_a_client_twice() -> None:
    async def main() -> None:
        client = AsyncClient("localhost:1")
        await client.close()
        await client.close()

    asyncio.run(main())
    with Client("localhost:1") as client:
        client.close()


def test_a_request_that_waits_for_its_next_attempt_ends_with_its_client() -> None:
    refused = threading.Event()

    def script(request: FakeRequest) -> Iterator[str]:
        yield from ()
        refused.set()
        raise InBandError("[resource_exhausted] full: try again in 0.2 s")

    with FakeServer(script) as server, ThreadPoolExecutor() as pool:
        client = Client(server.endpoint)
        waiting = pool.submit(client.generate, "x")
        assert refused.wait(10)
        client.close()
        assert isinstance(waiting.exception(10), Cancelled)


def test_an_asyncio_client_in_another_event_loop() -> None:
    with FakeServer() as server, asyncio.Runner() as first, asyncio.Runner() as second:
        client = AsyncClient(server.endpoint)
        first.run(client.generate("x"))
        for use in (client.generate("x"), client.is_ready(), client.close()):
            with pytest.raises(RuntimeError, match="make one in each event loop"):
                second.run(use)
        assert first.run(client.generate("x")).text
        first.run(client.close())


def test_closing_an_asyncio_client_whose_event_loop_is_gone() -> None:
    with FakeServer() as server:
        client = AsyncClient(server.endpoint)
        asyncio.run(client.generate("x"))
        asyncio.run(client.close())
        with pytest.raises(RuntimeError):
            asyncio.run(client.generate("x"))


def give_token() -> str:
    return "t1"


def test_pickling_keeps_the_settings_alone() -> None:
    def copy(client: T) -> T:
        return cast("T", pickle.loads(pickle.dumps(client)))

    async def ask(client: AsyncClient) -> None:
        async with client:
            await client.generate("x")

    with FakeServer() as server:
        client = Client(
            f"grpc://{server.endpoint}", model="other", metadata={"a": "b"}, token=give_token
        )
        with client:
            client.generate("x")
            with copy(client) as other:
                other.generate("x")
        assert repr(other) == f"Client({server.endpoint!r}, model='other')"
        metadata = {"a": "b"}
        twin = AsyncClient(server.endpoint, model="other", metadata=metadata, token=give_token)
        asyncio.run(ask(copy(twin)))
    sent = {
        (request.model, request.metadata["a"], request.metadata["authorization"])
        for request in server.requests
    }
    assert (sent, len(server.requests)) == ({("other", "b", "Bearer t1")}, 3)


def test_a_port_forward_cannot_be_pickled() -> None:
    client = Client("localhost:1")
    client._close_port_forward = lambda: None
    with pytest.raises(TypeError, match="call from_resource in the other process"):
        pickle.dumps(client)
    client.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def secure_server(certificate: Certificate) -> Iterator[FakeServer]:
    pem, key = (path.read_bytes() for path in certificate)
    # The certificate is its own authority: clients must show it as well.
    credentials = grpc.ssl_server_credentials([(key, pem)], pem, require_client_auth=True)
    with FakeServer(["秘"], credentials=credentials) as server:
        yield server


def test_tls(connect: Connect, secure_server: FakeServer, certificate: Certificate) -> None:
    pem, key = certificate
    tls = TLS(ca=pem, certificate=pem, key=key)
    assert connect(secure_server.endpoint, tls=tls).generate("x").text == "秘"
    port = secure_server.endpoint.rpartition(":")[2]
    by_address = TLS(ca=pem, certificate=pem, key=key, server_name="localhost")
    assert connect(f"grpcs://127.0.0.1:{port}", tls=by_address).generate("x").text == "秘"


@pytest.mark.parametrize("scheme", ["grpc", "grpcs"])
def test_tls_on_one_side_only_or_without_trust(
    connect: Connect, secure_server: FakeServer, scheme: str
) -> None:
    client = connect(f"{scheme}://{secure_server.endpoint}", retries=0)
    with pytest.raises(Unavailable, match="both sides use TLS or neither"):
        client.generate("x")


def test_a_script_may_wait_for_the_test(connect: Connect) -> None:
    go_on = threading.Event()

    def script(request: FakeRequest) -> Iterator[str]:
        yield "前"
        assert go_on.wait(10)
        yield "後"

    with FakeServer(script) as server, connect(server.endpoint).stream("x") as stream:
        assert next(stream).text == "前"
        go_on.set()
        assert stream.reply().text == "前後"
