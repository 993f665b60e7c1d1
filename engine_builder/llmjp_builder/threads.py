"""Two worker threads over many items: enough to overlap disk and CPU."""

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
"""Per worker thread: `stopped`, the event that ends its work."""


class _WorkStopped(Exception):
    """An item was not begun or not finished: another one failed, or nobody waits for it."""


def raise_if_stopped() -> None:
    """Raise if this worker's result is no longer wanted; long work calls it now and then."""
    stopped: threading.Event | None = getattr(_own, "stopped", None)
    if stopped is not None and stopped.is_set():
        raise _WorkStopped


def run_in_threads(run: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """Run `run` on all items and return the results in order; the first error stops the rest."""
    stopped = threading.Event()
    errors: list[BaseException] = []

    def unless_stopped(item: _Item) -> _Result:
        _own.stopped = stopped
        try:
            raise_if_stopped()
            return run(item)
        except _WorkStopped:
            raise
        except BaseException as exc:
            stopped.set()
            errors.append(exc)
            raise

    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="llmjp-builder") as pool:
        try:
            futures = [pool.submit(unless_stopped, item) for item in items]
            return [future.result() for future in futures]
        except _WorkStopped:
            raise errors[0] from errors[0].__cause__
        except BaseException:
            stopped.set()
            raise
