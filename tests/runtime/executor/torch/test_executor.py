"""The thread around the engine: concurrency, health, failure and the end."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

import pytest

from llmjp_runtime.errors import ExecutorClosed, OptionInvalid, RequestRefused
from llmjp_runtime.executor.protocol import (
    Executor,
    Feature,
    FinishReason,
    SamplingParams,
    TokenEvent,
)
from llmjp_runtime.executor.torch import executor as torch_executor
from llmjp_runtime.executor.torch.executor import TorchExecutor
from llmjp_runtime.executor.torch.model import ParallelLlama

from .running import GREEDY, new_scheduler, prompts, replies, request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S = 60.0
ENDLESS = SamplingParams(max_tokens=120, temperature=0.0)


class Awaited:
    """A listener whose last event can be waited for."""

    def __init__(self) -> None:
        self.events: list[TokenEvent] = []
        self.begun = threading.Event()
        self.ended = threading.Event()

    def __call__(self, event: TokenEvent) -> None:
        assert not self.ended.is_set(), "an event after the final one"
        self.events.append(event)
        self.begun.set()
        if event.final:
            self.ended.set()

    def last(self) -> TokenEvent:
        assert self.ended.wait(PATIENCE_S)
        return self.events[-1]

    @property
    def token_ids(self) -> tuple[int, ...]:
        return tuple(i for event in self.events for i in event.token_ids)


@pytest.fixture
def executor(checkpoint: Path) -> Iterator[TorchExecutor]:
    running = TorchExecutor.load(checkpoint, device="cpu", max_batch_size=4)
    yield running
    running.close()


def test_it_is_an_executor(executor: TorchExecutor) -> None:
    protocol: Executor = executor
    assert protocol.features == frozenset(Feature)
    limits = protocol.limits
    assert (limits.max_context, limits.vocab_size, limits.max_batch_size) == (128, 211, 4)


def test_replies_are_those_of_the_new_scheduler(
    executor: TorchExecutor, model: ParallelLlama
) -> None:
    wanted = [request(prompt) for prompt in prompts(10)]
    listeners = [Awaited() for _ in wanted]
    for item, listener in zip(wanted, listeners, strict=True):
        executor.submit(item, listener)
    assert {listener.last().finish_reason for listener in listeners} == {FinishReason.LENGTH}
    expected = [events.token_ids for events in replies(new_scheduler(model), wanted)]
    assert [listener.token_ids for listener in listeners] == expected


def test_two_hundred_requests_from_all_sides_leave_nothing_behind(executor: TorchExecutor) -> None:
    listeners: list[Awaited] = []
    answers: list[bool] = []

    def customer(seed: int) -> None:
        chance, mine = random.Random(seed), []
        for _ in range(50):
            length = chance.randint(1, 40)
            item = request(
                [chance.randrange(211) for _ in range(length)],
                SamplingParams(max_tokens=chance.randint(1, 20), seed=chance.randrange(99)),
            )
            listeners.append(listener := Awaited())
            executor.submit(item, listener)
            mine.append(item.request_id)
            if chance.random() < 0.5:
                answers.append(executor.cancel(chance.choice(mine)))

    threads = [threading.Thread(target=customer, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    reasons = [listener.last().finish_reason for listener in listeners]
    assert len(reasons) == 200
    assert set(reasons) == {FinishReason.LENGTH, FinishReason.CANCELLED}
    assert reasons.count(FinishReason.CANCELLED) <= answers.count(True)
    health = executor.health()
    assert (health.num_active, health.num_waiting, health.error) == (0, 0, None)
    assert health.num_generated >= sum(len(listener.token_ids) for listener in listeners)


def test_cancel_says_whether_there_was_anything(executor: TorchExecutor) -> None:
    listener, item = Awaited(), request([1, 2], ENDLESS)
    assert not executor.cancel(item.request_id)
    executor.submit(item, listener)
    assert executor.cancel(item.request_id)
    assert listener.last().finish_reason is FinishReason.CANCELLED
    assert not executor.cancel(item.request_id)


def test_an_id_in_use_is_refused_and_free_again_after(executor: TorchExecutor) -> None:
    first, again, item = Awaited(), Awaited(), request([1, 2], ENDLESS)
    executor.submit(item, first)
    with pytest.raises(RequestRefused, match="is in use"):
        executor.submit(item, again)
    executor.cancel(item.request_id)
    first.last()
    executor.submit(item, again)
    assert again.last().finish_reason is FinishReason.LENGTH


def test_a_listener_may_submit_and_cancel(executor: TorchExecutor) -> None:
    second, chained = Awaited(), request([3, 4])

    def first(event: TokenEvent) -> None:
        if event.final:
            executor.submit(chained, second)
            assert executor.cancel(chained.request_id)

    executor.submit(request([1, 2]), first)
    assert second.last().finish_reason is FinishReason.CANCELLED


def test_beyond_a_limit(executor: TorchExecutor) -> None:
    with pytest.raises(RequestRefused, match=r"prompt \(120\) and max_tokens \(24\) exceed"):
        executor.submit(request([1] * 120), Awaited())
    assert executor.health().num_waiting == 0


def test_health_counts(executor: TorchExecutor) -> None:
    assert executor.health().num_steps == 0
    listener = Awaited()
    executor.submit(request([1, 2]), listener)
    listener.last()
    health = executor.health()
    assert (health.num_steps, health.num_generated, health.num_active) == (24, 24, 0)
    assert health.heartbeat_age_s < PATIENCE_S


def test_the_heart_beats_while_idle(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_executor, "_IDLE_S", 0.001)
    executor = TorchExecutor.load(checkpoint, device="cpu")
    beats: set[float] = set()
    while len(beats) < 5:
        beats.add(executor._heartbeat)
    executor.close()


def test_a_step_that_raises_ends_all_and_is_remembered(
    executor: TorchExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, queued, later = Awaited(), [Awaited() for _ in range(6)], Awaited()
    executor.submit(request([1, 2], ENDLESS), first)
    assert first.begun.wait(PATIENCE_S)

    def broken(self: ParallelLlama, step: object, cache: object) -> None:
        raise MemoryError("no more of it")

    monkeypatch.setattr(ParallelLlama, "forward", broken)
    for listener in queued:
        executor.submit(request([1, 2], ENDLESS), listener)
    for listener in [first, *queued]:
        assert listener.last().error == "the executor failed (MemoryError)"
    assert executor.health().error == "the executor failed (MemoryError)"
    executor.submit(request([1, 2]), later)
    assert later.last().error == "the executor failed (MemoryError)"
    assert executor.health().num_active == executor.health().num_waiting == 0


def test_close_ends_everything_and_may_be_repeated(checkpoint: Path) -> None:
    executor = TorchExecutor.load(checkpoint, device="cpu", max_batch_size=2)
    listeners = [Awaited() for _ in range(5)]
    for listener in listeners:
        executor.submit(request([1, 2], ENDLESS), listener)
    executor.close()
    executor.close()
    assert all(listener.ended.is_set() for listener in listeners)
    assert listeners[-1].last().finish_reason is FinishReason.CANCELLED
    with pytest.raises(ExecutorClosed):
        executor.submit(request([1, 2]), Awaited())
    assert not executor.cancel("r0")
    assert executor.health().num_active == 0


def test_options(checkpoint: Path) -> None:
    executor = TorchExecutor.load(
        checkpoint, device="cpu", max_batch_size=1, max_context=40, num_valid_ids=9, num_threads=1
    )
    listener = Awaited()
    executor.submit(request([1] * 16, GREEDY), listener)
    assert listener.last().finish_reason is FinishReason.LENGTH
    assert max(listener.token_ids) < 9
    assert executor.limits.max_context == 40
    executor.close()


@pytest.mark.parametrize(
    ("option", "value"),
    [("max_batch_size", 0), ("max_context", 129), ("max_context", 0), ("num_valid_ids", 212)],
)
def test_options_out_of_range(checkpoint: Path, option: str, value: int) -> None:
    with pytest.raises(OptionInvalid, match=f"{option} is {value}, expected 1 to"):
        TorchExecutor.load(checkpoint, device="cpu", **{option: value})  # type: ignore[arg-type]
