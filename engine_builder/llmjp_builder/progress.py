"""Progress reports from counted bytes: rate, remaining time, limited frequency."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from llmjp_builder.contracts.spec import Progress, Step

if TYPE_CHECKING:
    from collections.abc import Callable

_INTERVAL_S = 0.2
"""At least between two reports of a step; its first and last are always sent."""


class Reporter:
    """Counts one step at a time. Thread-safe; `sink` is called by one thread at once."""

    def __init__(
        self,
        sink: Callable[[Progress], None] | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._lock = threading.Lock()
        self._step = Step.FETCH
        self._message = ""
        self._total = self._done = self._already = 0
        self._began = self._reported = clock()

    @property
    def step(self) -> Step:
        """The current step."""
        return self._step

    def begin(self, step: Step, bytes_total: int, message: str, *, already: int = 0) -> None:
        """Begin a step.

        Args:
            step: which.
            bytes_total: of the whole step; 0 where it has no size.
            message: what is being done, for people.
            already: bytes that an earlier build had done; they count as progress, not as speed.
        """
        with self._lock:
            self._step, self._message = step, message
            self._total, self._done, self._already = bytes_total, already, already
            self._began = self._clock()
            self._report(ended=False)

    def add(self, num_bytes: int) -> None:
        """Count bytes as done."""
        with self._lock:
            self._done += num_bytes
            if self._clock() - self._reported >= _INTERVAL_S:
                self._report(ended=False)

    def end(self) -> None:
        """End the step; all of it is done."""
        with self._lock:
            self._done = self._total
            self._report(ended=True)

    def _report(self, *, ended: bool) -> None:
        self._reported = self._clock()
        if self._sink is None:
            return
        elapsed = self._reported - self._began
        rate = max(0, self._done - self._already) / elapsed if elapsed > 0 else 0.0
        eta = (self._total - self._done) / rate if rate > 0 and self._total else None
        share = self._done / self._total if self._total else float(ended)
        self._sink(
            Progress(
                step=self._step,
                percent=round(min(100.0, 100 * share), 1),
                bytes_done=self._done,
                bytes_total=self._total,
                bytes_per_second=round(rate, 1),
                eta_seconds=0.0 if ended else None if eta is None else round(max(0.0, eta), 1),
                message=self._message,
            )
        )
