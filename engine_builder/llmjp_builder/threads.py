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


class _Stopped(Exception):
    """An item that was never begun: another one failed first."""


def in_threads(run: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """The results of `run`, in order; after an error nothing new is begun, and it is raised."""
    stopped = threading.Event()
    errors: list[BaseException] = []

    def unless_stopped(item: _Item) -> _Result:
        if stopped.is_set():
            raise _Stopped
        try:
            return run(item)
        except BaseException as exc:
            stopped.set()
            errors.append(exc)
            raise

    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="llmjp-builder") as pool:
        futures = [pool.submit(unless_stopped, item) for item in items]
        try:
            return [future.result() for future in futures]
        except _Stopped:
            raise errors[0] from errors[0].__cause__
        except BaseException:
            stopped.set()
            raise
