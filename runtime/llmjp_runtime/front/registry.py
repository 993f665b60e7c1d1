"""The requests that were let in and have not ended, from the first look to the last response."""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmjp_runtime.front.health import DrainState
from llmjp_runtime.front.metrics import ReplyTimes
from llmjp_runtime.front.request import Code, InvalidArgument, RequestError
from llmjp_runtime.front.request_log import RequestName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmjp_runtime.executor.protocol import FinishReason
    from llmjp_runtime.front.response_stream import Responder, ResponseStream

_log = logging.getLogger(__name__)

DRAINING = "this server is about to end and takes no new requests"
"""How the refusal of a draining server begins: clients send the request to another one."""
NUM_ENDS = 32
"""The requests that ended last, by which the wait for a place is estimated."""


@dataclass(slots=True, eq=False)
class Ticket:
    """One request that was let in. Shared by threads: `lock` guards what changes."""

    key: str
    """The executor's id of it."""
    request_id: str
    """The client's; may be empty."""
    responder: Responder
    deadline_s: float
    """On the clock of `time.monotonic`."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    trace_id: str | None = None
    times: ReplyTimes = field(default_factory=ReplyTimes)
    stream: ResponseStream | None = None
    """None until the prompt is tokenised."""
    submitted: bool = False
    """The executor knows it."""
    ended_early: FinishReason | None = None
    """Why it is to end before its reply does; the first reason counts."""
    refused: bool = False

    @property
    def name(self) -> RequestName:
        """What the log calls it."""
        return RequestName(self.request_id, self.trace_id)

    @property
    def done(self) -> bool:
        """Return whether the last response has been sent."""
        return self.refused or (self.stream is not None and self.stream.done)


def estimate_wait_s(ends_s: Sequence[float], now: float) -> float | None:
    """Return the mean time between requests that ended, until now, in [0.1, 30] s (pure).

    That long a place takes to become free. Clients read it in the refusal and wait accordingly.

    Args:
        ends_s: when the last requests ended, oldest first.
        now: on the same clock.

    Returns:
        Seconds; None before any request has ended.
    """
    if not ends_s:
        return None
    return min(max((now - ends_s[0]) / len(ends_s), 0.1), 30.0)


class RequestRegistry:
    """Lets requests in while there is room, and finds them again. Thread-safe."""

    def __init__(self, capacity: int, drain_grace_s: float) -> None:
        """Start empty; `capacity` requests may run or wait."""
        self._capacity = capacity
        self._drain_grace_s = drain_grace_s
        self._lock = threading.Lock()
        self._tickets: dict[str, Ticket] = {}
        self._key_of_id: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._refuses_from_s: float | None = None
        self._ends_s: deque[float] = deque(maxlen=NUM_ENDS)

    def admit(
        self, responder: Responder, request_id: str = "", deadline_s: float = math.inf
    ) -> Ticket:
        """Let a request in.

        Raises:
            RequestError: the server is ending, is full, or has a request of this id.
        """
        with self._lock:
            if self._refuses_from_s is not None and time.monotonic() >= self._refuses_from_s:
                raise RequestError(Code.UNAVAILABLE, f"{DRAINING}: send it again, to another")
            if len(self._tickets) >= self._capacity:
                raise RequestError(
                    Code.RESOURCE_EXHAUSTED,
                    f"{len(self._tickets)} requests are running or waiting, the limit is "
                    f"{self._capacity}: try again {self._say_when()}",
                )
            if request_id and request_id in self._key_of_id:
                raise InvalidArgument("request id: a running request has this id")
            ticket = Ticket(f"r{next(self._numbers)}", request_id, responder, deadline_s)
            self._tickets[ticket.key] = ticket
            if request_id:
                self._key_of_id[request_id] = ticket.key
            return ticket

    def forget(self, key: str) -> Ticket | None:
        """Give a request's place to another; return it, None if that was done before."""
        with self._lock:
            ticket = self._tickets.pop(key, None)
            if ticket is not None:
                self._ends_s.append(time.monotonic())
            if ticket is not None and ticket.request_id:
                del self._key_of_id[ticket.request_id]
            return ticket

    def _say_when(self) -> str:
        wait_s = estimate_wait_s(self._ends_s, time.monotonic())
        return "later" if wait_s is None else f"in {wait_s:.1f} s"

    def find(self, request_id: str) -> Ticket | None:
        """Return the request with the client's id, if it has not ended."""
        with self._lock:
            return self._tickets.get(self._key_of_id.get(request_id, ""))

    def list_tickets(self) -> list[Ticket]:
        """Return every request."""
        with self._lock:
            return list(self._tickets.values())

    def count_unsubmitted(self) -> int:
        """Return how many requests the executor does not know yet."""
        return sum(ticket.stream is None for ticket in self.list_tickets())

    def __len__(self) -> int:
        return len(self._tickets)

    def drain(self) -> DrainState:
        """Refuse new requests after the grace period; see `FrontService.drain`."""
        with self._lock:
            now = time.monotonic()
            if self._refuses_from_s is None:
                self._refuses_from_s = now + self._drain_grace_s
                _log.info("draining: %d requests are running or waiting", len(self._tickets))
            left_s = max(self._refuses_from_s - now, 0.0)
            return DrainState(left_s == 0 and not self._tickets, len(self._tickets), left_s)

    @property
    def draining(self) -> bool:
        """Return whether `drain` was called."""
        return self._refuses_from_s is not None
