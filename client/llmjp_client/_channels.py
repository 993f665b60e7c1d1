"""gRPC channels to the endpoint: one that new calls take, and old ones that finish their calls.

A server that is shutting down refuses new requests, but the connection to it stays, and behind a
Kubernetes Service it leads to the same pod for as long as it lives. So what is sent again is sent
over a new channel. Sans I/O: a shell opens and closes the channels.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


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
    _current: PooledChannel | None = None
    _retired: list[PooledChannel] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def current(self) -> PooledChannel:
        """The channel that new calls take."""
        with self._lock:
            return self._ensure_current()

    def acquire(self, instead_of: PooledChannel | None = None) -> PooledChannel:
        """Return a channel for one call; never `instead_of`, over which it was not answered."""
        with self._lock:
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
        """Return every channel, to close them; the next call opens a new one."""
        with self._lock:
            channels = [*self._retired, *([self._current] if self._current else [])]
            self._retired, self._current = [], None
            return channels

    def _ensure_current(self) -> PooledChannel:
        if self._current is None:
            self._current = self.open_channel()
        return self._current
