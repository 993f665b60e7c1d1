"""Both clients behind one blocking surface, so that one test speaks for both."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from llmjp_client import AsyncClient, AsyncStream, Chunk, Client, Reply

if TYPE_CHECKING:
    from typing import Self


class BlockingStream:
    """An AsyncStream driven from outside its loop."""

    def __init__(self, runner: asyncio.Runner, stream: AsyncStream) -> None:
        self._runner = runner
        self._stream = stream

    def __enter__(self) -> Self:
        self._runner.run(self._stream.__aenter__())
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._runner.run(self._stream.__aexit__(*exc_info))

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        async def pull() -> Chunk | None:
            return await anext(self._stream, None)

        chunk = self._runner.run(pull())
        if chunk is None:
            raise StopIteration
        return chunk

    def reply(self) -> Reply:
        return self._runner.run(self._stream.reply())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class BlockingClient:
    """An AsyncClient driven from outside its loop."""

    def __init__(self, runner: asyncio.Runner, client: AsyncClient) -> None:
        self._runner = runner
        self._client = client

    def stream(self, *args: Any, **options: Any) -> BlockingStream:
        return BlockingStream(self._runner, self._client.stream(*args, **options))

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return lambda *args, **options: self._runner.run(method(*args, **options))


Connect: TypeAlias = Callable[..., Any]
"""`Client(endpoint, **settings)` in the test's flavour, closed after the test."""


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    clients: list[Any] = []
    with asyncio.Runner() as runner:

        def open_client(endpoint: str, **settings: Any) -> Any:
            clients.append(
                Client(endpoint, **settings)
                if request.param == "sync"
                else BlockingClient(runner, AsyncClient(endpoint, **settings))
            )
            return clients[-1]

        yield open_client
        for client in clients:
            client.close()


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Threads of port-forwards are gone after the test."""
    before = set(threading.enumerate())
    yield
    assert {t for t in threading.enumerate() if t.name.startswith("llmjp-client")} <= before
