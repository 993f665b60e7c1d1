"""gRPC channels to the endpoint: one that new calls take, and old ones that finish their calls.

A server that is shutting down refuses new requests, but the connection to it stays, and behind a
Kubernetes Service it leads to the same pod for as long as it lives. So what is sent again is sent
over a new channel. Sans I/O: a shell opens and closes the channels.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ._errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable


def do_nothing() -> None:
    """Do nothing: for clients that hold no port-forward, and callers that may always call."""


@dataclass(slots=True, eq=False)
class PooledChannel:
    """One gRPC channel, and how many calls it carries."""

    channel: Any
    stub: Any
    num_calls: int = 0
    retired: bool = False


@dataclass(slots=True)
class ChannelPool:
    """The channels of a client. Thread-safe."""

    open_channel: Callable[[], PooledChannel]
    check_caller: Callable[[], None] = do_nothing
    """Raises where the caller may not use these channels."""
    _current: PooledChannel | None = None
    _retired: list[PooledChannel] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: bool = False

    @property
    def current(self) -> PooledChannel:
        """The channel that new calls take.

        Raises:
            RuntimeError: the client is closed.
        """
        self.check_caller()
        with self._lock:
            self._check_open()
            return self._ensure_current()

    def acquire(self, instead_of: PooledChannel | None = None) -> PooledChannel:
        """Return a channel for one call; never `instead_of`, over which it was not answered.

        Raises:
            Cancelled: the client was closed while the call waited for its next attempt.
            RuntimeError: the client is closed.
        """
        self.check_caller()
        with self._lock:
            if instead_of is not None and self._closed:
                raise Cancelled("the client was closed")
            self._check_open()
            if instead_of is not None and instead_of is self._current:
                instead_of.retired = True
                self._retired.append(instead_of)
                self._current = None
            channel = self._ensure_current()
            channel.num_calls += 1
            return channel

    def release(self, channel: PooledChannel) -> PooledChannel | None:
        """Note that a call has ended; return the channel if it is to be closed now."""
        with self._lock:
            channel.num_calls -= 1
            if channel.retired and channel.num_calls <= 0 and channel in self._retired:
                self._retired.remove(channel)
                return channel
            return None

    def take_all(self) -> list[PooledChannel]:
        """Return every channel, to close them; there will be no others."""
        with self._lock:
            self._closed = True
            channels = [*self._retired, *([self._current] if self._current else [])]
            self._retired, self._current = [], None
            return channels

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the client is closed: make a new one, or close it later")

    def _ensure_current(self) -> PooledChannel:
        if self._current is None:
            self._current = self.open_channel()
        return self._current
