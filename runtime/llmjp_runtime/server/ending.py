"""That a server is to end. Imports next to nothing: a process must be ready for signals early."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True)
class Ending:
    """Whether the server was asked to end, and when. Called, it is the handler of a signal.

    A handler interrupts whatever runs, so it takes no lock and leaves everything else to the loops
    that look here.
    """

    asked_at_s: float | None = None
    """On the clock of `time.monotonic`."""

    def __call__(self, *_: object) -> None:
        """Ask for it; the first time counts."""
        if self.asked_at_s is None:
            self.asked_at_s = time.monotonic()
