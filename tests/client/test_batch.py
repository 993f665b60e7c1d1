"""Many prompts at once, by both clients."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from llmjp_client import AsyncClient, BatchProgress, Client, InvalidRequest, Reply
from llmjp_client.testing import FakeRequest, FakeServer, InBandError, StatusError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Connect


def echo(request: FakeRequest) -> Iterator[str]:
    text = read_text(request)
    if text == "bad":
        raise InBandError("[invalid_argument] bad")
    yield text


def read_text(request: FakeRequest) -> str:
    last: Any = request.prompt if isinstance(request.prompt, str) else request.prompt[-1]
    return str(last["content"] if isinstance(last, dict) else last)


def test_replies_and_errors_are_in_the_order_of_the_prompts(connect: Connect) -> None:
    prompts = ["一", [{"role": "user", "content": "二"}], "bad", "四"]
    seen: list[BatchProgress] = []
    with FakeServer(echo) as server:
        results = connect(server.endpoint).batch(
            prompts, concurrency=2, on_progress=seen.append, max_tokens=8, request_id="r"
        )
    assert [r.text if isinstance(r, Reply) else type(r) for r in results] == [
        "一",
        "二",
        InvalidRequest,
        "四",
    ]
    assert [r.request_id for r in results] == ["r-1", "r-2", "r-3", "r-4"]
    assert [p.done for p in seen] == [1, 2, 3, 4]
    assert seen[-1] == BatchProgress(done=4, failed=1, total=4)
    assert {request.options["max_tokens"] for request in server.requests} == {8}


def test_what_cannot_be_sent_fails_alone(connect: Connect) -> None:
    unfit = [{"role": "user", "content": b"bytes"}]
    with FakeServer(echo) as server:
        first, second = connect(server.endpoint).batch([unfit, "二"])
    assert (type(first), second.text) == (InvalidRequest, "二")


def test_raw_prompts_and_ids(connect: Connect) -> None:
    with FakeServer(echo) as server:
        results = connect(server.endpoint).batch(iter(["def f", [1, 2]]), raw=True)
    assert [r.text for r in results] == ["def f", "2"]
    assert {request.prompt for request in server.requests} == {"def f", (1, 2)}


def test_no_more_than_so_many_run_at_once(connect: Connect) -> None:
    lock, running, most = threading.Lock(), 0, 0
    both = threading.Barrier(3)

    def script(request: FakeRequest) -> Iterator[str]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait(10)  # so three do run at once, and never a fourth
        with lock:
            running -= 1
        yield "ok"

    with FakeServer(script) as server:
        results = connect(server.endpoint).batch(["x"] * 9, concurrency=3)
    assert [r.text for r in results] == ["ok"] * 9
    assert most == 3


def test_an_overloaded_server_answers_all_in_the_end(connect: Connect) -> None:
    refusals = iter([StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, "try again in 0 s")] * 4)

    def script(request: FakeRequest) -> Iterator[str]:
        for refusal in refusals:
            raise refusal
        yield "ok"

    with FakeServer(script) as server:
        results = connect(server.endpoint).batch(["x"] * 8)
    assert [r.text for r in results] == ["ok"] * 8


def test_an_error_of_the_progress_function_ends_the_batch(connect: Connect) -> None:
    def script(request: FakeRequest) -> Iterator[str]:
        if read_text(request) != "first":
            request.cancelled.wait(10)
        yield "ok"

    def stop(progress: BatchProgress) -> None:
        raise KeyError(progress.done)

    with FakeServer(script) as server:
        with pytest.raises(KeyError):
            connect(server.endpoint).batch(["first", *["x"] * 9], concurrency=2, on_progress=stop)
        assert len(server.requests) <= 3


def test_a_cancelled_task_cancels_its_batch() -> None:
    def script(request: FakeRequest) -> Iterator[str]:
        yield from ()
        request.cancelled.wait(10)

    async def main(server: FakeServer) -> None:
        async with AsyncClient(server.endpoint) as client:
            task = asyncio.create_task(client.batch(["x"] * 4))
            await client.wait_until_ready()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert all(request.cancelled.wait(10) for request in server.requests)

    with FakeServer(script) as server:
        asyncio.run(main(server))


@pytest.mark.parametrize(
    ("prompts", "settings", "kind"),
    [
        ("one text", {}, TypeError),
        ({"role": "user", "content": "x"}, {}, TypeError),
        (None, {}, TypeError),
        ([None], {}, TypeError),
        ([[1, 2]], {}, TypeError),
        (["x"], {"concurrency": 0}, ValueError),
        (["x"], {"no_such_option": 1}, TypeError),
    ],
)
def test_misuse_is_said_before_anything_is_sent(
    prompts: Any, settings: dict[str, Any], kind: type[Exception]
) -> None:
    with FakeServer() as server:
        with Client(server.endpoint) as client, pytest.raises(kind):
            client.batch(prompts, **settings)
        assert server.requests == []


def test_a_batch_of_nothing(connect: Connect) -> None:
    assert connect("localhost:1").batch([]) == []
