"""A queue of keys with times and back-off, as client-go's workqueue. It knows nothing about models.

A key that is added several times before its turn is handled once; one that is added while it is
handled, once more. A key that failed comes back after a growing pause.
"""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

K = TypeVar("K")

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0


@dataclass(slots=True)
class WorkQueue(Generic[K]):
    """Keys with the time that each is due. All times are the event loop's."""

    handle: Callable[[K], Awaitable[float | None]]
    """Handles a key; returns after how many seconds it is due again, or None."""
    on_error: Callable[[K, Exception, float], None]
    """Is told of every failure and the pause that follows."""
    _due: dict[K, float] = field(default_factory=dict)
    _heap: list[tuple[float, int, K]] = field(default_factory=list)
    _busy: dict[K, float] = field(default_factory=dict)
    """Keys that are handled, and since when."""
    _failures: dict[K, int] = field(default_factory=dict)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _count: int = 0

    @property
    def depth(self) -> int:
        """Keys that are due now or later."""
        return len(self._due)

    async def add(self, key: K, after_s: float = 0.0) -> None:
        """Handle the key after so many seconds, or when it is due anyway if that is sooner."""
        due = asyncio.get_running_loop().time() + after_s
        if key in self._due and self._due[key] <= due:
            return
        async with self._changed:
            self._due[key] = due
            self._count += 1
            heapq.heappush(self._heap, (due, self._count, key))
            self._changed.notify()

    def find_longest(self) -> tuple[K, float] | None:
        """Return the key that has been handled for longest, and for how many seconds."""
        if not self._busy:
            return None
        key = min(self._busy, key=lambda key: self._busy[key])
        return key, asyncio.get_running_loop().time() - self._busy[key]

    def forget(self, key: K) -> None:
        """Drop the key, unless it is added again."""
        self._due.pop(key, None)
        self._failures.pop(key, None)

    async def work(self) -> None:
        """Handle keys for ever; run as many of these as may be handled at once."""
        while True:
            key = await self._next()
            try:
                after = await self.handle(key)
                self._failures.pop(key, None)
            except Exception as exc:  # noqa: BLE001  one model's failure must not stop the others
                failures = self._failures.get(key, 0)
                self._failures[key] = failures + 1
                after = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**failures)
                self.on_error(key, exc, after)
            finally:
                await self._release(key)
            if after is not None:
                await self.add(key, after)

    async def _next(self) -> K:
        async with self._changed:
            while True:
                now = asyncio.get_running_loop().time()
                taken = self._take(now)
                if taken is not None:
                    return taken
                soonest = min(
                    (due for key, due in self._due.items() if key not in self._busy), default=None
                )
                wait = self._changed.wait()
                try:
                    await asyncio.wait_for(wait, None if soonest is None else soonest - now)
                except TimeoutError:
                    continue

    def _take(self, now: float) -> K | None:
        passed = []
        taken: K | None = None
        while self._heap and self._heap[0][0] <= now and taken is None:
            entry = heapq.heappop(self._heap)
            due, _, key = entry
            if self._due.get(key) != due:
                continue  # it was handled, forgotten, or is due sooner
            if key in self._busy:
                passed.append(entry)
                continue
            del self._due[key]
            self._busy[key] = now
            taken = key
        for entry in passed:
            heapq.heappush(self._heap, entry)
        return taken

    async def _release(self, key: K) -> None:
        async with self._changed:
            self._busy.pop(key, None)
            if key in self._due:
                self._changed.notify()
