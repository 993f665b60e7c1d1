"""The executor in a process of its own: what comes through, and who notices whose death."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

from llmjp_runtime.engine.messages import LoadOrder, Outbox, pack_event, unpack_event
from llmjp_runtime.engine.proxy import DIED, EngineProxy
from llmjp_runtime.errors import EngineDied, ExecutorClosed, NotEnoughMemory, RequestRefused
from llmjp_runtime.executor.protocol import (
    Feature,
    FinishReason,
    GenerationRequest,
    SamplingParams,
    TokenEvent,
)
from llmjp_runtime.front.health import check_readiness
from llmjp_runtime.settings import ServingSettings
from tests.runtime.engine.counting_host import DIE, MAX_CONTEXT, REFUSE
from tests.runtime.executor.awaited import PATIENCE_S, Awaited
from tests.support.shared import ROOT

COUNTING = (sys.executable, "-m", "tests.runtime.engine.counting_host")


@contextmanager
def hosted(device: str = "cpu") -> Iterator[EngineProxy]:
    settings = ServingSettings(artefact=Path("/unused"), device=device)
    proxy = EngineProxy(LoadOrder(settings, 100), COUNTING)
    try:
        yield proxy
    finally:
        proxy.close()


@pytest.fixture(scope="module", autouse=True)
def _at_the_root() -> Iterator[None]:
    """Where `-m tests...` finds the host."""
    before = Path.cwd()
    os.chdir(ROOT)
    yield
    os.chdir(before)


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProxy]:
    """One host for tests that leave it as it was."""
    with hosted() as engine:
        yield engine


def request(name: str, max_tokens: int = MAX_CONTEXT - 1, first: int = 7) -> GenerationRequest:
    return GenerationRequest(
        request_id=name,
        prompt_ids=(first,),
        sampling=SamplingParams(max_tokens=max_tokens),
        log_probs=True,
    )


def ask(engine: EngineProxy, *given: Any, **more: Any) -> Awaited:
    events = Awaited()
    engine.submit(request(*given, **more), events)
    return events


def wait_gone(pid: int) -> None:
    """Until a process that is not ours to wait for is gone."""
    try:
        gone = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(gone, select.POLLIN)
    assert poll.poll(PATIENCE_S * 1000), "still there"
    os.close(gone)


def test_every_event_of_every_request_comes_through_in_order(engine: EngineProxy) -> None:
    replies = [ask(engine, f"r{index}", 200 + index) for index in range(16)]
    for index, reply in enumerate(replies):
        last = reply.last()
        assert last.finish_reason is FinishReason.LENGTH
        assert last.num_generated == 200 + index
        assert reply.token_ids == tuple(each % 100 for each in range(200 + index))
        assert all(event.log_probs == (-0.5,) for event in reply.events)


def test_what_the_executor_can_do_is_known(engine: EngineProxy) -> None:
    assert engine.limits.max_context == MAX_CONTEXT
    assert engine.features == {Feature.LOG_PROBS}
    ask(engine, "first", 1).last()
    assert check_readiness(engine.health()).ok


@pytest.mark.parametrize(
    "event",
    [
        TokenEvent(),
        TokenEvent(token_ids=(1, 2), log_probs=(-0.5, -1.5), num_generated=2),
        TokenEvent(num_generated=3, finish_reason=FinishReason.STOP),
        TokenEvent(error="out of memory", elsewhere=True),
    ],
)
def test_an_event_is_unpacked_as_it_was_packed(event: TokenEvent) -> None:
    assert unpack_event(pack_event("r1", event)) == ("r1", event)


def test_a_cancelled_request_ends(engine: EngineProxy) -> None:
    reply = ask(engine, "endless")
    reply.begun()
    assert engine.cancel("endless")
    assert reply.last().finish_reason is FinishReason.CANCELLED
    assert not engine.cancel("endless")


def test_what_breaks_a_limit_is_refused_before_it_is_sent(engine: EngineProxy) -> None:
    with pytest.raises(RequestRefused, match="exceed the context"):
        ask(engine, "long", MAX_CONTEXT)
    reply = ask(engine, "same")
    with pytest.raises(RequestRefused, match="in use"):
        ask(engine, "same")
    engine.cancel("same")
    reply.last()


def test_a_request_that_the_executor_refuses_ends_with_an_error(engine: EngineProxy) -> None:
    assert ask(engine, "r1", first=REFUSE).last().error == (
        "the executor refused the request (RuntimeError)"
    )
    assert ask(engine, "r2", 3).last().finish_reason is FinishReason.LENGTH


def test_a_listener_that_fails_ends_its_request_only(engine: EngineProxy) -> None:
    failed = threading.Event()

    def broken(event: TokenEvent) -> None:
        if event.final:
            failed.set()
        raise RuntimeError("listener")

    engine.submit(request("broken"), broken)
    assert ask(engine, "healthy", 300).last().num_generated == 300
    assert failed.wait(PATIENCE_S), "it is cancelled"


def test_a_host_that_is_stopped_for_a_while_is_late_and_nothing_else() -> None:
    with hosted() as engine:
        reply = ask(engine, "r1")
        reply.begun()
        os.kill(engine.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, engine.pid, os.WSTOPPED | os.WNOWAIT)
        before = engine.health().heartbeat_age_s
        late = ask(engine, "r2", 2)
        assert engine.cancel("r1"), "nobody waits for it"
        assert engine.health().heartbeat_age_s > before
        os.kill(engine.pid, signal.SIGCONT)
        assert reply.last().finish_reason is FinishReason.CANCELLED
        assert late.last().finish_reason is FinishReason.LENGTH
        assert engine.health().error is None


def test_when_the_host_dies_every_request_ends_at_once_and_says_why() -> None:
    with hosted() as engine:
        running = [ask(engine, f"r{index}") for index in range(8)]
        for reply in running:
            reply.begun()
        fatal = ask(engine, "fatal", first=DIE)
        for reply in (*running, fatal):
            last = reply.last()
            assert (last.error, last.elsewhere) == (DIED, True)
        health = engine.health()
        assert (health.error, health.num_waiting) == (DIED, 0)
        assert not check_readiness(health).ok
        assert ask(engine, "later").last().error == DIED


def test_closing_cancels_what_runs_and_ends_the_process() -> None:
    with hosted() as engine:
        reply = ask(engine, "r1")
        reply.begun()
        engine.close()
        assert reply.last().finish_reason is FinishReason.CANCELLED
        wait_gone(engine.pid)
        with pytest.raises(ExecutorClosed):
            ask(engine, "r2")
        engine.close()


def test_closing_a_host_that_hangs_kills_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmjp_runtime.engine.proxy.CLOSE_S", 0.1)
    with hosted() as engine:
        reply = ask(engine, "r1")
        reply.begun()
        os.kill(engine.pid, signal.SIGSTOP)
        engine.close()
        assert reply.last().finish_reason is FinishReason.CANCELLED
        wait_gone(engine.pid)


@pytest.mark.parametrize(
    ("device", "error", "words"),
    [
        ("small", NotEnoughMemory, "weights need 4 GiB, 1 GiB is free"),
        ("odd", RuntimeError, "Unsendable: weights: out of memory"),
        ("killed", EngineDied, "the engine's process was killed by SIGKILL while it loaded"),
    ],
)
def test_what_loading_raises_is_raised_here(
    device: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words), hosted(device):
        pass


FRONT = """
import sys, time
from pathlib import Path
from llmjp_runtime.engine.messages import LoadOrder
from llmjp_runtime.engine import proxy
from llmjp_runtime.settings import ServingSettings

spawn = proxy._spawn

def tell(command):
    process, connection = spawn(command)
    print(process.pid, flush=True)
    return process, connection

proxy._spawn = tell
settings = ServingSettings(artefact=Path("/unused"), device=sys.argv[1])
engine = proxy.EngineProxy(LoadOrder(settings, 100), sys.argv[2:])
print("loading", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("device", ["cpu", "endless"])
def test_a_host_ends_when_its_front_is_killed_whatever_it_does(device: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FRONT, device, *COUNTING], stdout=subprocess.PIPE, text=True
    ) as front:
        assert front.stdout
        host = int(front.stdout.readline())
        assert front.stdout.readline() == "loading\n"
        front.kill()
    wait_gone(host)


def test_what_comes_while_a_message_is_under_way_leaves_with_the_next() -> None:
    class Slow:
        """A connection whose first message takes until `gate`."""

        def __init__(self) -> None:
            self.sent: list[Any] = []
            self.began, self.gate = threading.Event(), threading.Event()

        def send(self, message: Any) -> None:
            self.sent.append(message)
            self.began.set()
            assert self.gate.wait(PATIENCE_S)

    connection: Any = Slow()
    outbox = Outbox(connection, list)
    outbox.put(0)
    assert connection.began.wait(PATIENCE_S)
    for item in range(1, 100):
        outbox.put(item)
    connection.gate.set()
    outbox.close(PATIENCE_S)
    assert connection.sent == [[0], list(range(1, 100))]


def test_an_outbox_speaks_up_although_there_is_nothing_to_say() -> None:
    reader, writer = Pipe(duplex=False)
    outbox = Outbox(writer, list, interval_s=0.01)
    assert reader.recv() == []
    assert reader.recv() == []
    reader.close()
    outbox.close(PATIENCE_S)
