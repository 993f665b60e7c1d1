"""The engine host: a process that runs an executor for the front model's process.

There the executor's loop shares the interpreter's lock with nothing that parses, detokenises or
sends. `python -m llmjp_runtime.engine.host FD` is started by `proxy` alone; FD is its end of a pair
of sockets. It ends when the other end is closed, whatever it is doing: it never outlives the front.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from llmjp_builder.contracts.defaults import BATCH_SIZE, VLLM_BATCH_SIZE
from llmjp_runtime.engine.messages import (
    CancelOrder,
    CloseOrder,
    Loaded,
    LoadFailure,
    LoadOrder,
    Outbox,
    Report,
    pack_event,
)
from llmjp_runtime.errors import RuntimeFailure
from llmjp_runtime.executor.protocol import GenerationRequest, TokenEvent
from llmjp_runtime.process_output import prepare_output

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmjp_runtime.engine.messages import Order
    from llmjp_runtime.executor.protocol import Executor

_log = logging.getLogger(__name__)

REPORT_S = 0.5
"""A report leaves at least so often: the front's probes know how old the last one is."""
LAST_REPORT_S = 5.0
"""How long the last events may take to leave."""


def load_executor(order: LoadOrder) -> Executor:
    """Load and start the executor of the order's backend; raises as its `load`."""
    return _load_vllm(order) if order.settings.backend == "vllm" else _load_torch(order)


def _load_vllm(order: LoadOrder) -> Executor:
    from llmjp_runtime.executor.vllm.engine import EngineSettings, load_api
    from llmjp_runtime.executor.vllm.executor import VllmExecutor

    settings = order.settings
    return VllmExecutor.load(
        load_api(),
        settings.artefact,
        EngineSettings(
            tensor_parallel=settings.tensor_parallel,
            pipeline_parallel=settings.pipeline_parallel,
            dtype=settings.compute_dtype,
            memory_fraction=settings.kv_cache_fraction,
            prefix_caching=settings.prefix_caching,
        ),
        max_batch_size=settings.max_batch_size or VLLM_BATCH_SIZE,
        max_context=settings.max_context,
        pace_s=settings.response_interval_ms / 1e3,
    )


def _load_torch(order: LoadOrder) -> Executor:
    from llmjp_runtime.executor.torch.executor import TorchExecutor

    settings = order.settings
    return TorchExecutor.load(
        settings.artefact,
        device=settings.device,
        compute_dtype=settings.compute_dtype,
        max_batch_size=settings.max_batch_size or BATCH_SIZE,
        max_context=settings.max_context,
        num_valid_ids=order.num_valid_ids,
        num_threads=settings.num_threads,
    )


class EngineHost:
    """An executor that is told what to do over a connection."""

    def __init__(self, connection: Connection[Any, Any], executor: Executor) -> None:
        """Tell the other end that the executor is there."""
        self._connection = connection
        self._executor = executor
        connection.send(Loaded(executor.limits, executor.features, executor.health()))
        self._outbox = Outbox(connection, self._build_report, interval_s=REPORT_S)

    def run(self) -> None:
        """Do as told until told to close, or until the other end is gone; then close."""
        try:
            while self._obey(self._connection.recv()):
                pass
        except (EOFError, OSError):
            _log.warning("the front model's process is gone")
        self._executor.close()
        self._outbox.close(LAST_REPORT_S)

    def _build_report(self, events: list[Any]) -> Report:
        return Report(events, self._executor.health())

    def _obey(self, orders: list[Order]) -> bool:
        """Return whether to continue."""
        for order in orders:
            match order:
                case GenerationRequest():
                    self._submit(order)
                case CancelOrder(request_id):
                    self._executor.cancel(request_id)
                case CloseOrder():
                    return False
        return True

    def _submit(self, request: GenerationRequest) -> None:
        on_event = partial(self._put, request.request_id)
        try:
            self._executor.submit(request, on_event)
        except Exception as exc:  # noqa: BLE001  one request's edge
            # The proxy has checked the limits, so this is ours; the request must end all the same.
            _log.exception("a request was not taken")
            on_event(TokenEvent(error=f"the executor refused the request ({type(exc).__name__})"))

    def _put(self, request_id: str, event: TokenEvent) -> None:
        self._outbox.put(pack_event(request_id, event))


def run_host(
    connection: Connection[Any, Any], load: Callable[[LoadOrder], Executor] = load_executor
) -> int:
    """Load what the first message says and serve it; return the exit status.

    What loading raises is the answer: the other end raises it as if it had loaded the model itself.
    """
    try:
        executor = load(connection.recv())
    except Exception as exc:  # noqa: BLE001  the process's edge
        if not isinstance(exc, RuntimeFailure):
            _log.info("the model could not be loaded", exc_info=True)
        connection.send(LoadFailure.from_exception(exc))
        return 1
    EngineHost(connection, executor).run()
    return 0


def exit_with_front(fd: int) -> None:
    """End this process as soon as the other end of the connection is closed."""
    hangup = select.poll()
    hangup.register(fd, 0)  # that it was closed is reported unasked

    def watch() -> None:
        hangup.poll()
        os._exit(1)

    threading.Thread(target=watch, name="front-watch", daemon=True).start()


def main() -> int:
    """Run as the process that `proxy` started."""
    fd = int(sys.argv[1])
    os.set_inheritable(fd, False)  # a process below this one must not keep the line open
    exit_with_front(fd)
    prepare_output()
    return run_host(Connection(fd))


if __name__ == "__main__":
    sys.exit(main())
