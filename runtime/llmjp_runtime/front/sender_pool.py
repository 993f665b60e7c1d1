"""The threads between the executor and the clients.

`send` is a blocking round trip to the server process of about 0.1 ms, so the executor's loop never
sends. A few threads do, each request pinned to one (responses of one request stay in order), and
whatever waits for the same request leaves as one response. A stream is sent at most every few
milliseconds, which no reader notices: at many tokens a second it saves most of the round trips.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llmjp_runtime.executor.protocol import TokenEvent
    from llmjp_runtime.front.registry import Ticket
    from llmjp_runtime.front.response_stream import ResponseStream

_log = logging.getLogger(__name__)


class SendQueue:
    """Streams to be flushed by one thread, each not before its time."""

    def __init__(self) -> None:
        """Start empty and open."""
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, ResponseStream]] = []
        self._numbers = itertools.count()
        self._closed = False

    def put(self, due_s: float, stream: ResponseStream) -> None:
        """Have the stream flushed at `due_s` (clock of `time.monotonic`)."""
        with self._changed:
            heapq.heappush(self._heap, (due_s, next(self._numbers), stream))
            if self._heap[0][2] is stream:
                self._changed.notify()

    def get(self) -> ResponseStream | None:
        """Wait for the next stream that is due; None once closed and empty."""
        with self._changed:
            while True:
                wait_s = self._heap[0][0] - time.monotonic() if self._heap else None
                if wait_s is not None and (wait_s <= 0 or self._closed):
                    return heapq.heappop(self._heap)[2]
                if self._closed:
                    return None
                self._changed.wait(wait_s)

    def close(self) -> None:
        """Make everything due at once; then `get` returns None."""
        with self._changed:
            self._closed = True
            self._changed.notify()


class SenderPool:
    """Threads that flush streams."""

    def __init__(
        self,
        num_threads: int,
        on_done: Callable[[ResponseStream], None],
        on_sent: Callable[[ResponseStream], None] = lambda _: None,
    ) -> None:
        """Start the threads; `on_sent` is called after responses, `on_done` after the last."""
        self._on_done = on_done
        self._on_sent = on_sent
        self._queues = [SendQueue() for _ in range(num_threads)]
        self._next_queue = itertools.cycle(self._queues)
        self._threads = [
            threading.Thread(target=self._run, args=(queue,), name=f"sender-{index}", daemon=True)
            for index, queue in enumerate(self._queues)
        ]
        for thread in self._threads:
            thread.start()

    def attach(self, stream: ResponseStream) -> Callable[[TokenEvent], None]:
        """Return a stream's `on_event`, which appends, and wakes a sender unless one is coming."""
        queue = next(self._next_queue)

        def on_event(event: TokenEvent) -> None:
            due = stream.push(event, time.monotonic())
            if due is not None:
                queue.put(due, stream)

        return on_event

    def _run(self, queue: SendQueue) -> None:
        while (stream := queue.get()) is not None:
            try:
                stream.flush(time.monotonic())
            except Exception:  # noqa: BLE001  a thread's edge
                # The client is gone, or the response could not be built: end this request.
                _log.exception("response failed")
                stream.abandon()
            self._on_sent(stream)
            if stream.done:
                self._on_done(stream)

    def close(self) -> None:
        """End the threads once the queues are empty."""
        for queue in self._queues:
            queue.close()
        for thread in self._threads:
            thread.join()


class RequestMonitor:
    """Finds, every `interval_s`, requests that are past their deadline or left by their client."""

    def __init__(
        self,
        list_tickets: Callable[[], Iterable[Ticket]],
        *,
        on_expired: Callable[[Ticket], None],
        on_cancelled: Callable[[Ticket], None],
        interval_s: float = 0.1,
    ) -> None:
        """Start the thread."""
        self._list_tickets = list_tickets
        self._on_expired = on_expired
        self._on_cancelled = on_cancelled
        self._interval_s = interval_s
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closed.wait(self._interval_s):
            now = time.monotonic()
            for ticket in self._list_tickets():
                if ticket.done:
                    continue
                if now >= ticket.deadline_s:
                    self._on_expired(ticket)
                elif ticket.responder.is_cancelled():
                    self._on_cancelled(ticket)

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join()
