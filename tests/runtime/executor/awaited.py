"""A listener whose events can be waited for."""

from __future__ import annotations

import threading

from llmjp_runtime.executor.protocol import TokenEvent

PATIENCE_S = 30.0
"""Nobody waits so long unless something is broken."""


class Awaited:
    """Keeps the events of one request."""

    def __init__(self) -> None:
        self.events: list[TokenEvent] = []
        self._changed = threading.Condition()

    def __call__(self, event: TokenEvent) -> None:
        with self._changed:
            assert not (self.events and self.events[-1].final), "an event after the final one"
            self.events.append(event)
            self._changed.notify_all()

    def begun(self) -> None:
        """Wait for the first event."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.events, PATIENCE_S)

    def last(self) -> TokenEvent:
        """Wait for the final event."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.events and self.events[-1].final, PATIENCE_S)
            return self.events[-1]

    @property
    def token_ids(self) -> tuple[int, ...]:
        return tuple(i for event in self.events for i in event.token_ids)
