"""Many prompts at once, a bounded number at a time: threads, or tasks of one event loop.

A failed prompt gives its error in place of its reply; anything else that is raised (a wrong type,
an interrupt, an error of the progress function) ends the whole batch, and what runs is cancelled.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from ._errors import Cancelled, LlmJpError
from ._messages import build_conversation
from ._types import BatchProgress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from ._types import Options, Prompt, Reply

CONCURRENCY: Final = 16
"""Requests of a batch that run at once, unless the caller says otherwise."""

OnProgress: TypeAlias = Callable[[BatchProgress], None]


class CancellableStream(Protocol):
    """A stream, as far as a batch needs it."""

    def __enter__(self) -> Any: ...
    def __exit__(self, *exc_info: object) -> Any: ...
    def reply(self) -> Reply:
        """Return the whole reply."""

    def cancel(self) -> None:
        """Stop the reply."""


@dataclass(slots=True)
class BatchResults:
    """The results of a batch, each in the place of its prompt."""

    total: int
    on_progress: OnProgress | None
    _by_index: dict[int, Reply | LlmJpError] = field(default_factory=dict)
    _failed: int = 0

    def add(self, index: int, result: Reply | LlmJpError) -> None:
        """Note one result, and tell the caller."""
        self._by_index[index] = result
        self._failed += isinstance(result, LlmJpError)
        if self.on_progress is not None:
            self.on_progress(BatchProgress(len(self._by_index), self._failed, self.total))

    def list_in_order(self) -> list[Reply | LlmJpError]:
        """Return all results in the order of the prompts."""
        return [self._by_index[index] for index in range(self.total)]


def list_items(
    prompts: Iterable[Prompt], options: Options, *, raw: bool, concurrency: int
) -> list[tuple[Prompt, Options]]:
    """Return each prompt as it is sent, with its options; a request id given gets a number.

    Raises:
        TypeError: one prompt instead of a list of them, or none of its kinds.
        ValueError: `concurrency` is below 1.
    """
    if isinstance(prompts, str | bytes | Mapping) or not isinstance(prompts, Iterable):
        found = type(prompts).__name__
        raise TypeError(f"prompts: expected a list of prompts, found {found}: pass [prompt]")
    if concurrency < 1:
        raise ValueError(f"concurrency: expected 1 or more, found {concurrency}")
    items = []
    for number, prompt in enumerate(prompts, 1):
        of_item = options.copy()
        if given := options.get("request_id"):
            of_item["request_id"] = f"{given}-{number}"
        conversation: Any = prompt  # judged at run time
        items.append((prompt if raw else build_conversation(conversation), of_item))
    return items


class ThreadedBatch:
    """A batch whose requests are waited for by threads."""

    def __init__(
        self, openers: Sequence[Callable[[], CancellableStream]], results: BatchResults
    ) -> None:
        self._openers = openers
        self._results = results
        self._running: set[CancellableStream] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def run(self, concurrency: int) -> list[Reply | LlmJpError]:
        """Return all results, in order; the progress function runs in the calling thread."""
        with ThreadPoolExecutor(concurrency, thread_name_prefix="llmjp-client-batch") as pool:
            indices = {pool.submit(self._ask, o): i for i, o in enumerate(self._openers)}
            try:
                for future in as_completed(indices):
                    self._results.add(indices[future], future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._stop()
                raise
        return self._results.list_in_order()

    def _ask(self, open_stream: Callable[[], CancellableStream]) -> Reply | LlmJpError:
        try:
            stream = open_stream()
            self._start(stream)
            try:
                with stream:
                    return stream.reply()
            finally:
                with self._lock:
                    self._running.discard(stream)
        except LlmJpError as error:
            return error

    def _start(self, stream: CancellableStream) -> None:
        with self._lock:
            if self._stopped:
                raise Cancelled("the batch has ended")
            self._running.add(stream)

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            running = tuple(self._running)
        for stream in running:
            stream.cancel()


async def run_batch_async(
    asks: Sequence[Callable[[], Awaitable[Reply]]], results: BatchResults, concurrency: int
) -> list[Reply | LlmJpError]:
    """Return all results, in order; the progress function runs in the event loop."""
    waiting = iter(enumerate(asks))

    async def work() -> None:
        for index, ask in waiting:
            try:
                result: Reply | LlmJpError = await ask()
            except LlmJpError as error:
                result = error
            results.add(index, result)

    workers = [asyncio.create_task(work()) for _ in range(min(concurrency, len(asks)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return results.list_in_order()
