"""The executor around the C++ model: threads, cancellation, failures, health, the end."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from llmjp_runtime.errors import ExecutorClosed, RequestRefused
from llmjp_runtime.executor.protocol import Executor, ExecutorLimits, Feature, FinishReason
from llmjp_runtime.executor.tensorrt import executor as tensorrt_executor
from llmjp_runtime.executor.tensorrt.executor import PROBE, TensorRTExecutor
from tests.runtime.executor.awaited import PATIENCE_S, Awaited

from .test_messages import END, asked, outputs
from .test_model_config import ENGINE

Tensors = dict[str, Any]


class ScriptedModel:
    """The C++ model: keeps requests running until the test feeds them, forgets unknown stops."""

    def __init__(self) -> None:
        self.loaded = True
        self.deaf_to_stops = 0
        """How many stops are lost, as those that come before their request."""
        self.stops: list[str] = []
        self.broken = False
        """Every request fails from here on."""
        self._running: dict[str, queue.SimpleQueue[Tensors | Exception | None]] = {}
        self._prompts: dict[tuple[int, ...], str] = {}
        self._changed = threading.Condition()

    def is_ready(self) -> bool:
        return self.loaded

    def infer(
        self, tensors: Mapping[str, Any], request_id: str, output_names: Sequence[str], /
    ) -> Iterator[Tensors]:
        assert {"output_ids", "sequence_length"} <= set(output_names)
        if "stop" in tensors:
            self._stop(request_id)
            return
        if self.broken:
            raise RuntimeError("CUDA error: an illegal memory access\n1 0x7f a stack")
        prompt = tuple(tensors["input_ids"][0].tolist())
        if prompt == PROBE.prompt_ids:
            yield outputs(9)
            return
        feed: queue.SimpleQueue[Tensors | Exception | None] = queue.SimpleQueue()
        with self._changed:
            assert request_id.isdecimal()
            assert request_id not in self._running
            self._running[request_id] = feed
            self._prompts[prompt] = request_id
            self._changed.notify_all()
        while (item := feed.get(timeout=PATIENCE_S)) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    def _stop(self, request_id: str) -> None:
        with self._changed:
            self.stops.append(request_id)
            self._changed.notify_all()
            if self.deaf_to_stops:
                self.deaf_to_stops -= 1
                return
            feed = self._running.get(request_id)
        if feed:
            feed.put(outputs())
            feed.put(None)

    def feed(self, prompt: tuple[int, ...], *items: Tensors | Exception | None) -> None:
        """Give responses to the request with this prompt, once it has come; None ends it."""
        with self._changed:
            assert self._changed.wait_for(lambda: prompt in self._prompts, PATIENCE_S)
            feed = self._running[self._prompts[prompt]]
        for item in items:
            feed.put(item)

    def running(self, num: int) -> None:
        """Wait until so many requests have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._running) >= num, PATIENCE_S)

    @property
    def num_come(self) -> int:
        return len(self._running)


def start(model: ScriptedModel, max_batch_size: int = 2) -> TensorRTExecutor:
    limits = ExecutorLimits(max_context=64, vocab_size=50, max_batch_size=max_batch_size)
    return TensorRTExecutor(model, ENGINE, limits)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_executor, "BUSY_S", 0.005)
    monkeypatch.setattr(tensorrt_executor, "IDLE_S", 0.01)


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel()


@pytest.fixture
def executor(model: ScriptedModel) -> Iterator[TensorRTExecutor]:
    running = start(model)
    yield running
    running.close()
    assert running.health().num_active == running.health().num_waiting == 0


_names = itertools.count()


def submit(executor: TensorRTExecutor, prompt: int, **sampling: Any) -> tuple[str, Awaited]:
    name, listener = f"x{next(_names)}", Awaited()
    request = replace(asked((prompt,), **(END | sampling)), request_id=name)
    executor.submit(request, listener)
    return name, listener


def until(condition: Callable[[], bool]) -> None:
    gate = threading.Event()
    for _ in range(int(PATIENCE_S / 0.005)):
        if condition():
            return
        gate.wait(0.005)
    raise AssertionError("it did not come to pass")


def test_it_is_an_executor(executor: TensorRTExecutor) -> None:
    protocol: Executor = executor
    assert protocol.features == frozenset(Feature) - {Feature.TOP_LOG_PROBS}
    assert protocol.limits.max_batch_size == 2


def test_responses_become_events(executor: TensorRTExecutor, model: ScriptedModel) -> None:
    _, listener = submit(executor, 5)
    model.feed((5,), outputs(7, 8), outputs(9), outputs(), None)
    assert listener.last().finish_reason is FinishReason.STOP
    assert listener.token_ids == (7, 8, 9)
    health = executor.health()
    assert (health.num_steps, health.num_generated, health.error) == (3, 3, None)


def test_no_more_run_at_once_than_asked_for(
    executor: TensorRTExecutor, model: ScriptedModel
) -> None:
    listeners = [submit(executor, prompt)[1] for prompt in (5, 6, 7)]
    model.running(2)
    until(lambda: executor.health().num_active == 2)
    assert (executor.health().num_waiting, model.num_come) == (1, 2)
    for prompt in (5, 6, 7):
        model.feed((prompt,), outputs(9), None)
    assert {listener.last().finish_reason for listener in listeners} == {FinishReason.STOP}


def test_a_full_batch_has_successors_at_hand(model: ScriptedModel) -> None:
    executor = start(model, max_batch_size=ENGINE.max_batch_size)
    assert executor._pool._max_workers > ENGINE.max_batch_size
    executor.close()


def test_cancelling_stops_by_the_same_id(executor: TensorRTExecutor, model: ScriptedModel) -> None:
    name, listener = submit(executor, 5)
    model.feed((5,), outputs(7))
    listener.begun()
    assert executor.cancel(name)
    assert listener.last().finish_reason is FinishReason.CANCELLED
    assert set(model.stops) == {model._prompts[5,]}
    assert not executor.cancel(name)


def test_a_stop_that_came_too_early_is_said_again(
    executor: TensorRTExecutor, model: ScriptedModel
) -> None:
    model.deaf_to_stops = 3
    name, listener = submit(executor, 5)
    model.running(1)
    executor.cancel(name)
    assert listener.last().finish_reason is FinishReason.CANCELLED
    assert len(model.stops) >= 4


def test_what_waits_is_cancelled_at_once_and_never_sent(
    executor: TensorRTExecutor, model: ScriptedModel
) -> None:
    others = [submit(executor, prompt) for prompt in (5, 6)]
    model.running(2)
    until(lambda: executor.health().num_active == 2)
    name, listener = submit(executor, 7)
    assert executor.cancel(name)
    assert listener.last().finish_reason is FinishReason.CANCELLED
    for prompt, (_, other) in zip((5, 6), others, strict=True):
        model.feed((prompt,), outputs(9), None)
        other.last()
    assert (7,) not in model._prompts


def test_a_reply_that_ends_before_the_stop_keeps_its_reason(
    executor: TensorRTExecutor, model: ScriptedModel
) -> None:
    model.deaf_to_stops = 10**9
    name, listener = submit(executor, 5, max_tokens=2)
    model.feed((5,), outputs(7))
    listener.begun()
    executor.cancel(name)
    model.feed((5,), outputs(8), None)
    assert listener.last().finish_reason is FinishReason.LENGTH


def test_nothing_is_sent_before_the_engine_is_ready(model: ScriptedModel) -> None:
    model.loaded = False
    executor = start(model)
    name, listener = submit(executor, 5)
    _, other = submit(executor, 6)
    assert executor.cancel(name)
    assert listener.last().finish_reason is FinishReason.CANCELLED
    assert (executor.health().num_active, model.num_come) == (0, 0)
    model.loaded = True
    model.feed((6,), outputs(7), None)
    assert other.last().finish_reason is FinishReason.STOP
    executor.close()


def test_the_heart_beats_only_while_the_engine_is_ready(
    executor: TensorRTExecutor, model: ScriptedModel
) -> None:
    for _ in range(3):
        last = executor._heartbeat
        until(lambda last=last: executor._heartbeat > last)  # type: ignore[misc]
    model.loaded = False
    until(lambda: executor.health().heartbeat_age_s > 0.1)


def test_a_failed_request_is_an_error_in_one_line(
    executor: TensorRTExecutor, model: ScriptedModel
) -> None:
    _, listener = submit(executor, 5)
    model.feed((5,), outputs(7), RuntimeError("request 3 failed\n1 0x7f a stack"))
    last = listener.last()
    assert last.error == "the engine failed: request 3 failed"
    assert (last.num_generated, listener.token_ids) == (1, (7,))
    until(lambda: executor.health().num_active == 0)
    assert executor.health().error is None


def test_an_engine_that_fails_its_probe_is_broken(
    executor: TensorRTExecutor, model: ScriptedModel
) -> None:
    model.broken = True
    _, listener = submit(executor, 5)
    assert listener.last().error == "the engine failed: CUDA error: an illegal memory access"
    until(lambda: executor.health().error is not None)
    assert "illegal memory access" in (executor.health().error or "")


def test_ids_in_use_and_limits_are_refused(
    executor: TensorRTExecutor, model: ScriptedModel
) -> None:
    listener = Awaited()
    executor.submit(asked((5,), **END), listener)
    with pytest.raises(RequestRefused, match="is in use"):
        executor.submit(asked((6,)), Awaited())
    with pytest.raises(RequestRefused, match="exceed the context of 64"):
        submit(executor, 5, max_tokens=64)
    with pytest.raises(RequestRefused, match="top_k"):
        submit(executor, 5, top_k=2000)
    model.feed((5,), None)
    listener.last()


def test_close_ends_everything(model: ScriptedModel) -> None:
    executor = start(model)
    listeners = [submit(executor, prompt)[1] for prompt in (5, 6, 7, 8)]
    model.running(2)
    executor.close()
    executor.close()
    assert {listener.last().finish_reason for listener in listeners} == {FinishReason.CANCELLED}
    with pytest.raises(ExecutorClosed):
        submit(executor, 5)


def test_close_gives_up_an_engine_that_does_not_stop(
    model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_executor, "CLOSE_S", 0.05)
    model.deaf_to_stops = 10**9
    executor = start(model)
    _, listener = submit(executor, 5)
    model.feed((5,), outputs(7))
    listener.begun()
    executor.close()
    assert listener.last().finish_reason is FinishReason.CANCELLED
    model.feed((5,), None)


def test_many_customers_leave_nothing_behind(model: ScriptedModel) -> None:
    executor = start(model, max_batch_size=8)
    listeners: list[Awaited] = []

    def customer(first: int) -> None:
        for prompt in range(first, first + 10):
            name, listener = submit(executor, prompt)
            listeners.append(listener)
            if prompt % 3 == 0:
                executor.cancel(name)
            else:
                model.feed((prompt,), outputs(7), outputs(8), None)

    threads = [threading.Thread(target=customer, args=(first,)) for first in (2, 12, 22, 32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    reasons = [listener.last().finish_reason for listener in listeners]
    assert len(reasons) == 40
    assert set(reasons) == {FinishReason.STOP, FinishReason.CANCELLED}
    health = executor.health()
    assert (health.num_active, health.num_waiting, health.error) == (0, 0, None)
    executor.close()
