"""Clients that ask all the time, and what became of every request."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from llmjp_client import Client, LlmJpError

if TYPE_CHECKING:
    from typing import Self

PROMPTS: Final = ("日本の首都は", "こんにちは", "1から10まで数えて", "自然言語処理とは")


@dataclass
class Load:
    """So many streams at once, from entering the block to leaving it."""

    address: str
    streams: int = 10
    finished: int = 0
    errors: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        for number in range(self.streams):
            thread = threading.Thread(target=self._ask, args=(number,), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=120)

    def _ask(self, number: int) -> None:
        """One user: the connection stays, as a program's would."""
        with Client(self.address, timeout=120) as client:
            turn = number
            while not self._stop.is_set():
                turn += 1
                try:
                    with client.stream(PROMPTS[turn % len(PROMPTS)], max_tokens=48) as stream:
                        for _ in stream:
                            pass
                    with self._lock:
                        self.finished += 1
                except LlmJpError as exc:
                    with self._lock:
                        self.errors.append(f"{type(exc).__name__}: {exc}")
