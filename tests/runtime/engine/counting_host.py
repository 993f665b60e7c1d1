"""An engine host whose executor counts: 0, 1, 2, ... one id a step for every request.

`device` of the settings says how loading goes. The first id of a prompt may be an order.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from llmjp_runtime.engine.host import exit_with_front, run_host
from llmjp_runtime.engine.messages import LoadOrder
from llmjp_runtime.errors import NotEnoughMemory
from llmjp_runtime.executor.protocol import (
    ExecutorHealth,
    ExecutorLimits,
    Feature,
    FinishReason,
    GenerationRequest,
    TokenEvent,
)

DIE, REFUSE = 90, 91
"""First ids of a prompt: the process is killed at the request's first step; submitting raises."""
MAX_CONTEXT = 1 << 20


class CountingExecutor:
    """Steps as quickly as it can."""

    limits = ExecutorLimits(max_context=MAX_CONTEXT, vocab_size=100, max_batch_size=4)
    features = frozenset({Feature.LOG_PROBS})

    def __init__(self) -> None:
        self._running: dict[str, tuple[GenerationRequest, Callable[[TokenEvent], None]]] = {}
        self._counts: dict[str, int] = {}
        self._cancelled: set[str] = set()
        self._changed = threading.Condition()
        self._closing = False
        self._steps = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def submit(self, request: GenerationRequest, on_event: Callable[[TokenEvent], None]) -> None:
        if request.prompt_ids[0] == REFUSE:
            raise RuntimeError("no")
        with self._changed:
            self._running[request.request_id] = request, on_event
            self._changed.notify()

    def cancel(self, request_id: str) -> bool:
        with self._changed:
            self._cancelled.add(request_id)
            return request_id in self._running

    def health(self) -> ExecutorHealth:
        return ExecutorHealth(
            heartbeat_age_s=0.0,
            num_active=len(self._running),
            num_waiting=0,
            num_steps=self._steps,
            num_generated=self._steps,
        )

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._running or self._closing)
                if self._closing and not self._running:
                    return
                self._steps += 1
                for name, (request, on_event) in list(self._running.items()):
                    self._step(name, request, on_event)

    def _step(
        self, name: str, request: GenerationRequest, on_event: Callable[[TokenEvent], None]
    ) -> None:
        if request.prompt_ids[0] == DIE:
            os.kill(os.getpid(), signal.SIGKILL)
        count = self._counts.get(name, 0)
        reason = None
        if name in self._cancelled or self._closing:
            reason = FinishReason.CANCELLED
        elif count + 1 == request.sampling.max_tokens:
            reason = FinishReason.LENGTH
        self._counts[name] = count + 1
        if reason is not None:
            del self._running[name], self._counts[name]
            self._cancelled.discard(name)
        on_event(
            TokenEvent(
                token_ids=(count % 100,),
                log_probs=(-0.5,) if request.log_probs else None,
                num_generated=count + 1,
                finish_reason=reason,
            )
        )


class Unsendable(Exception):
    """Cannot be made from its one argument, as pickle would."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")


def load(order: LoadOrder) -> CountingExecutor:
    match order.settings.device:
        case "small":
            raise NotEnoughMemory("weights need 4 GiB, 1 GiB is free")
        case "odd":
            raise Unsendable("weights", "out of memory")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "endless":
            print("loading", flush=True)
            while True:
                time.sleep(60)
        case _:
            assert order.num_valid_ids == 100
    return CountingExecutor()


if __name__ == "__main__":
    fd = int(sys.argv[1])
    exit_with_front(fd)
    sys.exit(run_host(Connection(fd), load))
