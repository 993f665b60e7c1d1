"""The same work on many items, two at a time: enough to overlap a disk with a processor."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_WORKERS = 2

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


_own = threading.local()
"""Of a thread of `in_threads`: `stopped`, the event that ends its work."""


class _Stopped(Exception):
    """An item that was not begun or not ended: another one failed, or nobody waits for it."""


def go_on() -> None:
    """Nothing, while the work of this thread is wanted; long work calls it now and then."""
    stopped: threading.Event | None = getattr(_own, "stopped", None)
    if stopped is not None and stopped.is_set():
        raise _Stopped


def in_threads(run: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """The results of `run`, in order; after an error nothing new is begun, and it is raised."""
    stopped = threading.Event()
    errors: list[BaseException] = []

    def unless_stopped(item: _Item) -> _Result:
        _own.stopped = stopped
        try:
            go_on()
            return run(item)
        except _Stopped:
            raise
        except BaseException as exc:
            stopped.set()
            errors.append(exc)
            raise

    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="llmjp-builder") as pool:
        try:
            futures = [pool.submit(unless_stopped, item) for item in items]
            return [future.result() for future in futures]
        except _Stopped:
            raise errors[0] from errors[0].__cause__
        except BaseException:
            stopped.set()
            raise
