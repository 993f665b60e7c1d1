"""The threads between the executor and the clients.

`send` is a blocking round trip to the server process of about 0.1 ms, so the executor's loop never
sends. A few threads do, each request pinned to one (responses of one request stay in order), and
whatever waits for the same request leaves as one response. A request with more to say goes to the
end of its thread's queue, so that nobody's first token waits behind another's stream.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llmjp_runtime.executor.protocol import TokenEvent
    from llmjp_runtime.front.live import LiveRequest

_log = logging.getLogger(__name__)


class SenderPool:
    """Threads that flush live requests."""

    def __init__(self, num_threads: int, on_done: Callable[[LiveRequest], None]) -> None:
        """Start the threads; `on_done` is called once for each finished request."""
        self._on_done = on_done
        self._lanes: list[queue.SimpleQueue[LiveRequest | None]] = [
            queue.SimpleQueue() for _ in range(num_threads)
        ]
        self._next_lane = itertools.cycle(range(num_threads))
        self._threads = [
            threading.Thread(target=self._run, args=(lane,), name=f"sender-{index}", daemon=True)
            for index, lane in enumerate(self._lanes)
        ]
        for thread in self._threads:
            thread.start()

    def sink(self, live: LiveRequest) -> Callable[[TokenEvent], None]:
        """The `on_event` of a request: appends, and wakes its thread where it sleeps."""
        lane = self._lanes[next(self._next_lane)]

        def on_event(event: TokenEvent) -> None:
            if live.push(event):
                lane.put(live)

        return on_event

    def _run(self, lane: queue.SimpleQueue[LiveRequest | None]) -> None:
        while (live := lane.get()) is not None:
            try:
                again = live.flush()
            except Exception:  # noqa: BLE001  a thread's edge
                # The client is gone, or the response could not be made: this request ends here.
                _log.exception("response failed")
                live.abandon()
                again = False
            if live.done:
                self._on_done(live)
            elif again:
                lane.put(live)

    def close(self) -> None:
        """End the threads after what is queued."""
        for lane in self._lanes:
            lane.put(None)
        for thread in self._threads:
            thread.join()


class Watch:
    """Looks every `interval_s` which requests are past their deadline or left by their client."""

    def __init__(
        self,
        live: Callable[[], Iterable[LiveRequest]],
        *,
        on_expired: Callable[[LiveRequest], None],
        on_cancelled: Callable[[LiveRequest], None],
        interval_s: float = 0.1,
    ) -> None:
        """Start the thread."""
        self._live = live
        self._on_expired = on_expired
        self._on_cancelled = on_cancelled
        self._interval_s = interval_s
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closed.wait(self._interval_s):
            now = time.monotonic()
            for live in self._live():
                if live.done:
                    continue
                if live.deadline_s is not None and now >= live.deadline_s:
                    self._on_expired(live)
                elif live.responder.cancelled():
                    self._on_cancelled(live)

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join()
