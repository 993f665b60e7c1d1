"""The executor as the front model's process has it: a proxy of the one in the engine host."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Final, Self

from llmjp_runtime.engine.messages import (
    CancelOrder,
    CloseOrder,
    Loaded,
    LoadOrder,
    Outbox,
    unpack_event,
)
from llmjp_runtime.errors import EngineDied, ExecutorClosed, RequestRefused
from llmjp_runtime.executor.admission import check_request
from llmjp_runtime.executor.protocol import FinishReason, TokenEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmjp_runtime.engine.messages import LoadFailure, PackedEvent, Report
    from llmjp_runtime.executor.protocol import (
        ExecutorHealth,
        ExecutorLimits,
        Feature,
        GenerationRequest,
    )
    from llmjp_runtime.settings import ServingSettings

_log = logging.getLogger(__name__)

HOST_MODULE: Final = "llmjp_runtime.engine.host"
"""What the host's process runs; `llmjp serve` finds it by this argument."""
# -P: whatever the working directory holds shadows no module.
_COMMAND: Final = (sys.executable, "-P", "-m", HOST_MODULE)
CLOSE_S: Final = 10.0
"""How long the host may take for its last step and events; it is killed then."""
DIED: Final = "the engine's process died"
"""What every running request is told."""


class EngineProxy:
    """An `Executor` in another process. Nothing here waits for it, but for loading and closing."""

    def __init__(self, order: LoadOrder, command: Sequence[str] = _COMMAND) -> None:
        """Start the process and return once it has loaded the model.

        Args:
            order: what to load.
            command: the host's; the number of its end of the connection is appended.

        Raises:
            EngineDied: it ended before it had loaded the model.
            Exception: what loading raised there.
        """
        self._process, self._connection = _spawn(command)
        loaded = self._load(order)
        self._limits, self._features = loaded.limits, loaded.features
        self._lock = threading.Lock()
        # Guarded by _lock:
        self._listeners: dict[str, Callable[[TokenEvent], None]] = {}
        self._closing = False
        self._error: str | None = None
        # Written by the receiving thread alone:
        self._reading = loaded.health, time.monotonic()
        self._outbox = Outbox(self._connection, list)
        self._receiver = threading.Thread(target=self._receive, name="engine-events", daemon=True)
        self._receiver.start()

    @classmethod
    def start(cls, settings: ServingSettings, num_valid_ids: int) -> Self:
        """Start the engine host for these settings; raises as `__init__`."""
        return cls(LoadOrder(settings, num_valid_ids))

    def _load(self, order: LoadOrder) -> Loaded:
        try:
            self._connection.send(order)
            answer: Loaded | LoadFailure = self._connection.recv()
        except (EOFError, OSError):
            raise EngineDied(
                f"the engine's process {_describe_end(self._process.wait())} while it loaded the "
                "model"
            ) from None
        if isinstance(answer, Loaded):
            return answer
        self._connection.close()
        self._process.wait()
        raise answer.to_exception()

    @property
    def limits(self) -> ExecutorLimits:
        """Constant after construction."""
        return self._limits

    @property
    def features(self) -> frozenset[Feature]:
        """Constant after construction."""
        return self._features

    @property
    def pid(self) -> int:
        """Process id of the host."""
        return self._process.pid

    def submit(self, request: GenerationRequest, on_event: Callable[[TokenEvent], None], /) -> None:
        """Queue a request; see `protocol.Executor.submit`.

        Raises:
            RequestRefused: (a ValueError) a limit is broken or the id is in use.
            ExecutorClosed: after `close`.
        """
        check_request(request, self._limits)
        with self._lock:
            if self._closing:
                raise ExecutorClosed("the executor is closed")
            if request.request_id in self._listeners:
                raise RequestRefused(f"request_id {request.request_id!r} is in use")
            if (error := self._error) is None:
                self._listeners[request.request_id] = on_event
                self._outbox.put(request)
        if error is not None:
            on_event(TokenEvent(error=error, elsewhere=True))

    def cancel(self, request_id: str, /) -> bool:
        """Ask for a request to end; see `protocol.Executor.cancel`."""
        with self._lock:
            live = request_id in self._listeners
            if live:
                self._outbox.put(CancelOrder(request_id))
            return live

    def health(self) -> ExecutorHealth:
        """Return the host's last reading, and how old it is."""
        reading, since_s = self._reading
        return replace(
            reading,
            heartbeat_age_s=reading.heartbeat_age_s + time.monotonic() - since_s,
            num_waiting=max(len(self._listeners) - reading.num_active, 0),
            error=self._error or reading.error,
        )

    def close(self) -> None:
        """End every request (`CANCELLED`) and the process. Idempotent."""
        with self._lock:
            self._closing = True
            self._outbox.put(CloseOrder())
        self._outbox.close(CLOSE_S)
        self._receiver.join(CLOSE_S)
        self._process.kill()
        self._process.wait()
        self._receiver.join()
        self._connection.close()

    def _receive(self) -> None:
        try:
            while True:
                report: Report = self._connection.recv()
                self._reading = report.health, time.monotonic()
                for packed in report.events:
                    self._deliver(packed)
        except (EOFError, OSError):
            self._end_all()

    def _deliver(self, packed: PackedEvent) -> None:
        request_id, event = unpack_event(packed)
        listener = self._listeners.get(request_id)
        if listener is None:
            return
        if event.final:
            with self._lock:
                del self._listeners[request_id]
        try:
            listener(event)
        except Exception:  # noqa: BLE001  a thread's edge
            # One listener's error must not end the others' replies.
            _log.exception("request's event listener failed")
            self.cancel(request_id)

    def _end_all(self) -> None:
        """End what still runs: nobody will hear of the host any more."""
        with self._lock:
            closing = self._closing
            self._error = None if closing else DIED
            left, self._listeners = self._listeners, {}
        last = (
            TokenEvent(finish_reason=FinishReason.CANCELLED)
            if closing
            else TokenEvent(error=DIED, elsewhere=True)
        )
        for listener in left.values():
            listener(last)
        if not closing:
            _log.error("the engine's process %s", _describe_end(self._process.wait()))


def _spawn(command: Sequence[str]) -> tuple[subprocess.Popen[bytes], Connection[Any, Any]]:
    """Start the host; it writes where this process writes."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fd = theirs.fileno()
        process = subprocess.Popen([*command, str(fd)], pass_fds=[fd], stdin=subprocess.DEVNULL)
        return process, Connection(ours.detach())


def _describe_end(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"
