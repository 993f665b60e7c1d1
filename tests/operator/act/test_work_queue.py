"""The queue of models, on the event loop's own clock."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from llmjp_operator.act.work_queue import FIRST_PAUSE_S, LONGEST_PAUSE_S, WorkQueue

LIMIT_S = 20.0
"""A test that takes longer hangs."""


class Handler:
    """Counts what is handled; a gate holds handling up."""

    def __init__(self, result: Callable[[str], float | None] = lambda _: None) -> None:
        self.handled: Counter[str] = Counter()
        self.failures: list[tuple[str, float]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.at_once = self.most = 0
        self._result = result
        self._changed = asyncio.Condition()

    async def __call__(self, key: str) -> float | None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.handled[key] += 1
        async with self._changed:
            self._changed.notify_all()
        try:
            await self.gate.wait()
            return self._result(key)
        finally:
            self.at_once -= 1

    def failed(self, key: str, _: Exception, pause_s: float) -> None:
        self.failures.append((key, pause_s))

    async def until(self, holds: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(holds)


@asynccontextmanager
async def working(handler: Handler, workers: int = 1) -> AsyncIterator[WorkQueue[str]]:
    queue: WorkQueue[str] = WorkQueue(handler, handler.failed)
    tasks = [asyncio.create_task(queue.work()) for _ in range(workers)]
    try:
        async with asyncio.timeout(LIMIT_S):
            yield queue
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def test_a_key_that_is_added_twice_is_handled_once() -> None:
    async def test() -> None:
        handler = Handler()
        queue: WorkQueue[str] = WorkQueue(handler, handler.failed)
        for key in ("a", "a", "b", "a"):
            await queue.add(key)
        assert queue.depth == 2
        async with working(handler) as empty:
            assert empty.depth == 0
            task = asyncio.create_task(queue.work())
            await handler.until(lambda: handler.handled == {"a": 1, "b": 1})
            task.cancel()
        assert queue.depth == 0

    run(test)


def test_a_key_that_is_added_while_it_is_handled_is_handled_again() -> None:
    async def test() -> None:
        handler = Handler()
        handler.gate.clear()
        async with working(handler, workers=2) as queue:
            await queue.add("a")
            await handler.until(lambda: handler.handled["a"] == 1)
            for _ in range(3):
                await queue.add("a")
            await queue.add("b")
            await handler.until(lambda: handler.handled["b"] == 1)
            assert handler.handled["a"] == 1, "never twice at once"
            handler.gate.set()
            await handler.until(lambda: handler.handled["a"] == 2)
        assert handler.handled == {"a": 2, "b": 1}

    run(test)


def test_as_many_at_once_as_there_are_workers() -> None:
    async def test() -> None:
        handler = Handler()
        handler.gate.clear()
        async with working(handler, workers=3) as queue:
            for i in range(9):
                await queue.add(f"k{i}")
            await handler.until(lambda: len(handler.handled) == 3)
            handler.gate.set()
            await handler.until(lambda: len(handler.handled) == 9)
        assert handler.most == 3

    run(test)


def test_the_sooner_time_counts() -> None:
    async def test() -> None:
        handler = Handler()
        async with working(handler) as queue:
            await queue.add("a", 3600)
            await queue.add("a", 7200)
            assert (queue.depth, handler.handled["a"]) == (1, 0)
            await queue.add("a")
            await handler.until(lambda: handler.handled["a"] == 1)
            assert queue.depth == 0, "the later time is no longer due"

    run(test)


def test_a_key_comes_back_when_its_handler_says_so() -> None:
    async def test() -> None:
        handler = Handler(lambda _: 0.0 if handler.handled["a"] < 3 else None)
        async with working(handler) as queue:
            await queue.add("a")
            await handler.until(lambda: handler.handled["a"] == 3)

    run(test)


def test_a_forgotten_key_is_not_handled() -> None:
    async def test() -> None:
        handler = Handler()
        queue: WorkQueue[str] = WorkQueue(handler, handler.failed)
        await queue.add("a")
        await queue.add("b")
        queue.forget("a")
        task = asyncio.create_task(queue.work())
        await handler.until(lambda: handler.handled["b"] == 1)
        task.cancel()
        assert handler.handled == {"b": 1}

    run(test)


def test_a_failure_pauses_its_key_only() -> None:
    async def test() -> None:
        def result(key: str) -> None:
            if key == "bad":
                raise ValueError(key)

        handler = Handler(result)
        async with working(handler) as queue:
            await queue.add("bad")
            await queue.add("good")
            await handler.until(lambda: handler.handled["good"] == 1)
            for pauses in range(2, 9):
                await queue.add("bad")  # sooner than its pause
                await handler.until(lambda n=pauses: handler.handled["bad"] == n)  # type: ignore[misc]
            await queue.add("good")
            await handler.until(lambda: handler.handled["good"] == 2)
        pauses_s = [pause for _, pause in handler.failures]
        assert pauses_s == [min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**i) for i in range(8)]

    run(test)


def test_success_ends_the_growing_of_pauses() -> None:
    async def test() -> None:
        def result(_: str) -> None:
            if handler.handled["a"] != 2:
                raise ValueError

        handler = Handler(result)
        async with working(handler) as queue:
            for times in range(1, 4):
                await queue.add("a")
                await handler.until(lambda n=times: handler.handled["a"] == n)  # type: ignore[misc]
            await queue.add("b")
            await handler.until(lambda: handler.handled["b"] == 1)
        assert handler.failures[:2] == [("a", FIRST_PAUSE_S), ("a", FIRST_PAUSE_S)]

    run(test)
