"""The threads that parse, render and tokenise, so that no request waits for another's prompt."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LARGE_BYTES = 64 * 1024
"""Prompts from here on wait in a line of their own: tokenising one takes 20 ms or more."""


class Intake:
    """Prepares requests: small ones in order of arrival, large ones after one another."""

    def __init__(self, num_threads: int) -> None:
        """Create the threads, which start with the first requests."""
        self._small = ThreadPoolExecutor(num_threads, "intake")
        self._large = ThreadPoolExecutor(1, "intake-large")

    def submit(self, num_bytes: int, prepare: Callable[[], None]) -> None:
        """Have a request prepared; `prepare` raises nothing."""
        pool = self._large if num_bytes >= LARGE_BYTES else self._small
        pool.submit(prepare)

    def close(self) -> None:
        """End the threads once everything is prepared."""
        self._small.shutdown()
        self._large.shutdown()
