"""/healthz fails when a part of the process is dead or hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from llmjp_operator.act import health
from llmjp_operator.act.health import Health
from llmjp_operator.act.leadership import Tenure
from llmjp_operator.act.work_queue import WorkQueue
from llmjp_operator.observe.cache import Key


async def never() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise ValueError("broken")


async def end() -> None:
    pass


async def cancel_itself() -> None:
    raise asyncio.CancelledError


def described(work: Callable[[], Awaitable[None]], tenure: Tenure) -> str:
    """Let a task run for a moment; return what is said of it."""

    async def run() -> str:
        task = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        said = Health(tenure, {"resync": task}).describe_failure()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return said

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (never, ""),
        (fail, "the resync has ended: ValueError: broken"),
        (end, "the resync has ended"),
        (cancel_itself, "the resync has ended"),
    ],
)
def test_a_task_that_ended_is_told(work: Callable[[], Awaitable[None]], said: str) -> None:
    assert described(work, Tenure(10)) == said


def test_a_lease_that_was_lost_is_told() -> None:
    tenure = Tenure(10, lambda: 100.0)
    tenure.renew(sent_at=90.0)
    assert described(never, tenure) == "the Lease was not renewed in time"


def test_a_reconcile_that_hangs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> tuple[str, str]:
        begun = asyncio.Event()

        async def hang(_: Key) -> None:
            begun.set()
            await never()

        queue: WorkQueue[Key] = WorkQueue(hang, lambda *_: None)
        of = Health(Tenure(10), queue=queue)
        working = asyncio.ensure_future(queue.work())
        await queue.add(("ns", "a"))
        await begun.wait()
        before = of.describe_failure()
        monkeypatch.setattr(health, "STUCK_AFTER_S", -1.0)
        after = of.describe_failure()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        return before, after

    before, after = asyncio.run(run())
    assert before == ""
    assert after.startswith("ns/a has been reconciled for")


def test_an_idle_queue_is_healthy() -> None:
    async def run() -> str:
        return Health(Tenure(10), queue=WorkQueue(never, lambda *_: None)).describe_failure()  # type: ignore[arg-type]

    assert asyncio.run(run()) == ""
