"""The executor over an engine of this file. The real vLLM: tests/triton/test_vllm.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from llmjp_runtime.executor.protocol import ExecutorLimits, FinishReason
from llmjp_runtime.executor.vllm import executor as vllm_executor
from llmjp_runtime.executor.vllm.engine import VllmApi
from llmjp_runtime.executor.vllm.executor import VllmExecutor
from tests.runtime.executor.awaited import Awaited
from tests.runtime.executor.tensorrt.test_messages import asked
from tests.runtime.executor.vllm.test_messages import Output

LIMITS = ExecutorLimits(max_context=64, vocab_size=50, max_batch_size=8)
PACE_S = 0.01


@dataclass
class Kinds:
    DELTA: str = "delta"


def keep(**arguments: Any) -> dict[str, Any]:
    return arguments


API = VllmApi(
    AsyncLLM=None,
    AsyncEngineArgs=None,
    SamplingParams=keep,
    RequestOutputKind=Kinds(),
    UsageContext=None,
    EngineDeadError=RuntimeError,
    runs_on_cpu=True,
)


@dataclass
class Result:
    outputs: list[Output]
    finished: bool


@dataclass
class Engine:
    """Generates `max_tokens` ids; what nobody fetched in time leaves merged, as vLLM does it."""

    errored: bool = False
    aborted: list[str] = field(default_factory=list)

    async def generate(self, prompt: Any, params: Any, request_id: str) -> AsyncIterator[Result]:
        left = params["max_tokens"]
        while left:
            await asyncio.sleep(0)
            if request_id in self.aborted:
                yield Result([Output((), "abort")], finished=True)
                return
            left -= 1
            yield Result([Output((7,), None if left else "length")], finished=not left)

    async def abort(self, request_id: str) -> None:
        self.aborted.append(request_id)

    def shutdown(self) -> None:
        self.errored = True


@pytest.mark.parametrize(("paced_from", "pauses"), [(0, 4), (1, 0)])
def test_events_of_many_streams_are_paced(
    monkeypatch: pytest.MonkeyPatch, paced_from: int, pauses: int
) -> None:
    monkeypatch.setattr(vllm_executor, "PACED_FROM", paced_from)
    slept: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        slept.extend([seconds] if seconds else [])
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", note)
    executor = VllmExecutor(Engine(), API, LIMITS, pace_s=PACE_S)
    listener = Awaited()
    executor.submit(asked(max_tokens=5), listener)
    assert listener.last().finish_reason is FinishReason.LENGTH
    assert listener.token_ids == (7,) * 5
    executor.close()
    assert slept == [PACE_S] * pauses, "the last one is not kept waiting"


def test_cancelling_aborts_in_the_engine() -> None:
    engine = Engine()
    executor = VllmExecutor(engine, API, LIMITS)
    listener = Awaited()
    executor.submit(replace(asked(max_tokens=40), request_id="long"), listener)
    executor.cancel("long")
    assert listener.last().finish_reason in {FinishReason.CANCELLED, FinishReason.LENGTH}
    executor.close()
    assert engine.errored, "it was shut down"


def test_a_core_that_ended_is_told_unasked() -> None:
    engine = Engine()
    executor = VllmExecutor(engine, API, LIMITS)
    engine.errored = True
    executor._loop.call_soon_threadsafe(executor._beat)
    listener = Awaited()
    executor.submit(asked(max_tokens=1), listener)
    listener.last()
    assert executor.health().error == "vLLM's core ended"
    executor.close()
