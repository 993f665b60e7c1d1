"""Connections to the endpoint: one that new calls take, and old ones that finish what they carry.

A server that is about to end refuses new requests, but the connection to it stays, and behind a
Kubernetes Service it leads to the same pod for as long as it lives. So what is sent again is sent
over a new connection. Sans I/O: a shell makes and closes the channels.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True, eq=False)
class Line:
    """One channel, and how many calls it carries."""

    channel: Any
    stub: Any
    calls: int = 0
    retired: bool = False


@dataclass(slots=True)
class Lines:
    """All channels of a client. Thread-safe."""

    make: Callable[[], Line]
    _current: Line | None = None
    _old: list[Line] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def current(self) -> Line:
        """The one that new calls take."""
        with self._lock:
            return self._made()

    def take(self, instead_of: Line | None = None) -> Line:
        """A line for a call; another one than `instead_of`, over which it was not answered."""
        with self._lock:
            if instead_of is not None and instead_of is self._current:
                instead_of.retired = True
                self._old.append(instead_of)
                self._current = None
            line = self._made()
            line.calls += 1
            return line

    def give(self, line: Line) -> Line | None:
        """A call has ended; the line, if it is to be closed now."""
        with self._lock:
            line.calls -= 1
            if line.retired and line.calls <= 0 and line in self._old:
                self._old.remove(line)
                return line
            return None

    def all(self) -> list[Line]:
        """Every line, to close them; the next call makes a new one."""
        with self._lock:
            lines = [*self._old, *([self._current] if self._current else [])]
            self._old, self._current = [], None
            return lines

    def _made(self) -> Line:
        if self._current is None:
            self._current = self.make()
        return self._current
