"""What the front model's process and the engine host say to each other.

Both ends are one program on one machine, and the pair of sockets between them has no name that a
stranger could call, so messages are pickled. Each is a batch: whatever has come since the last one.
"""

from __future__ import annotations

import pickle
import threading
from contextlib import suppress
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from llmjp_runtime.executor.protocol import GenerationRequest, TokenEvent

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from llmjp_runtime.executor.protocol import ExecutorHealth, ExecutorLimits, Feature
    from llmjp_runtime.settings import ServingSettings


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """The first message to the host."""

    settings: ServingSettings
    num_valid_ids: int
    """Ids from here on are never chosen."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The host's first message: the executor takes requests."""

    limits: ExecutorLimits
    features: frozenset[Feature]
    health: ExecutorHealth


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """The host's first message where there is no executor: what loading raised."""

    words: str
    pickled: bytes
    """The exception; empty where it cannot be pickled."""

    @classmethod
    def from_exception(cls, failure: Exception) -> LoadFailure:
        """Return the message about an exception of any kind."""
        pickled = b""
        with suppress(Exception):  # whatever pickling an exception of somebody's may raise
            pickled = pickle.dumps(failure)
        return cls(f"{type(failure).__name__}: {failure}", pickled)

    def to_exception(self) -> Exception:
        """Return the exception, or one in its words where it cannot be made again."""
        with suppress(Exception):
            failure = pickle.loads(self.pickled)  # noqa: S301  of our own process
            if isinstance(failure, Exception):
                return failure
        return RuntimeError(self.words)


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """`Executor.cancel`."""

    request_id: str


@dataclass(frozen=True, slots=True)
class CloseOrder:
    """`Executor.close`; the host ends after it."""


Order: TypeAlias = GenerationRequest | CancelOrder | CloseOrder
"""What the host is told, in lists."""

PackedEvent: TypeAlias = tuple[Any, ...]
"""A request's id and the fields of one of its events: five times as quick to pickle as both."""


@dataclass(frozen=True, slots=True)
class Report:
    """Events of all requests since the last report, and the executor's health after them."""

    events: list[PackedEvent]
    health: ExecutorHealth


_FIELDS = tuple(field.name for field in fields(TokenEvent))
_read_fields = attrgetter(*_FIELDS)


def pack_event(request_id: str, event: TokenEvent) -> PackedEvent:
    """Return what `unpack_event` reads."""
    return (request_id, *_read_fields(event))


def unpack_event(packed: PackedEvent) -> tuple[str, TokenEvent]:
    """Return a request's id and its event."""
    request_id, *values = packed
    return request_id, TokenEvent(**dict(zip(_FIELDS, values, strict=True)))


class Outbox:
    """A thread that sends: whoever has something to say never waits for the other process.

    What comes while a message is under way leaves with the next one, so that a step of the executor
    takes about one message, however many requests are in it.
    """

    def __init__(
        self,
        connection: Connection[Any, Any],
        build: Callable[[list[Any]], object],
        *,
        interval_s: float | None = None,
    ) -> None:
        """Start the thread.

        Args:
            connection: where to; only this thread sends there.
            build: a message of items, in the order in which they were put.
            interval_s: a message leaves at least so often, perhaps of no items; None means never
                without one.
        """
        self._connection = connection
        self._build = build
        self._interval_s = interval_s
        self._changed = threading.Condition()
        self._items: list[Any] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="engine-outbox", daemon=True)
        self._thread.start()

    def put(self, item: object) -> None:
        """Have an item sent; after `close` it is dropped."""
        with self._changed:
            if not self._closed:
                self._items.append(item)
                self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """Send what is there and end the thread; give up after `timeout_s`."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        # Who reads the other end learns of its loss, and acts; here is nobody left to talk to.
        with suppress(OSError):
            while (items := self._take()) is not None:
                self._connection.send(self._build(items))

    def _take(self) -> list[Any] | None:
        """Return what is to be sent next; None at the end."""
        with self._changed:
            if not (self._items or self._closed):
                self._changed.wait(self._interval_s)
            items, self._items = self._items, []
            done = self._closed and not items
            return None if done else items
