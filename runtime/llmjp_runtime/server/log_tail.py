"""A server's output: passed on as it comes, its end kept, and searched for why it failed."""

from __future__ import annotations

import re
import sys
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

import llmjp_runtime.text.errors  # noqa: F401  its classes are among those that are looked for
from llmjp_runtime.errors import NotEnoughMemory, RuntimeFailure
from llmjp_runtime.front.request_log import LINE_START

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

KEPT_LINES: Final = 200
_REQUEST: Final = LINE_START.encode()
"""Requests explain no failure, and many would crowd out what does."""


class LogTail:
    """Passes a process's output on to stderr; remembers its last lines."""

    def __init__(self, source: IO[bytes]) -> None:
        """Start a thread that reads until the last holder of the pipe is gone."""
        self._lines: deque[bytes] = deque(maxlen=KEPT_LINES)
        self._thread = threading.Thread(
            target=self._forward, args=(source,), name="server output", daemon=True
        )
        self._thread.start()

    @property
    def text(self) -> str:
        """The last lines."""
        return b"".join(self._lines.copy()).decode(errors="replace")

    def clear(self) -> None:
        """Forget the lines so far: they explain nothing that happens from here on."""
        self._lines.clear()

    def finish(self, timeout_s: float) -> None:
        """Wait until everything was passed on; not longer, as children may keep the pipe open."""
        self._thread.join(timeout_s)

    def _forward(self, source: IO[bytes]) -> None:
        with source:
            for line in source:
                if not line.startswith(_REQUEST):
                    self._lines.append(line)
                # If nobody reads stderr any more, the server must not stop for that.
                with suppress(OSError, ValueError):
                    sys.stderr.write(line.decode(errors="replace"))
                    sys.stderr.flush()


@dataclass(frozen=True, slots=True)
class FailureCause:
    """Why a server failed, as far as its output tells."""

    text: str
    error: type[RuntimeFailure] | None = None
    """Ours, where the front model raised one, or where the words mean one."""


_NOISE: Final = "CudaDriverHelper has not been initialized"
"""A line that tritonserver prints on every machine without a GPU."""
_FRAME: Final = re.compile(r"\d+# ")
"""How a line of the stack begins that tritonserver prints where it aborts."""
_PATTERNS: Final = (
    r"TritonModelException: (.*)",
    r"(?:Error|Exception): (.*)",
    r"^E\d{4} [^\]]*\] (.*)",
)
_MEMORY: Final = re.compile(r"\b(?:OutOfMemoryError|MemoryError|out of memory)\b")
_WHERE: Final = r"\n\nAt:"
"""After it, Triton prints the stack, in one line with the message."""


def find_cause(log: str) -> FailureCause:
    """Return the line of a server's log that says why it failed, as a person would (pure)."""
    nonempty = [each for line in log.splitlines() if (each := line.strip())]
    lines = [each for each in nonempty if _NOISE not in each and not _FRAME.match(each)]
    ours = {error.__name__: error for error in _list_subclasses(RuntimeFailure)}
    named = re.compile(rf"\b({'|'.join(ours)}): (.*)")
    if found := [match for line in lines if (match := named.search(line))]:
        return FailureCause(_strip_stack(found[-1][2]), ours[found[-1][1]])
    for pattern in _PATTERNS:
        reasons = [match[1] for line in lines if (match := re.search(pattern, line))]
        if reasons:
            return FailureCause(_strip_stack(reasons[-1]), _classify(lines))
    return FailureCause(lines[-1] if lines else "it printed nothing", _classify(lines))


def _strip_stack(text: str) -> str:
    return text.partition(_WHERE)[0].strip('"').strip()


def _classify(lines: Iterable[str]) -> type[RuntimeFailure] | None:
    return NotEnoughMemory if any(map(_MEMORY.search, lines)) else None


def _list_subclasses(error: type[RuntimeFailure]) -> Iterator[type[RuntimeFailure]]:
    for each in error.__subclasses__():
        yield each
        yield from _list_subclasses(each)
