"""What a server prints: passed on as it comes, and its end remembered for whoever asks why."""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

KEPT_LINES: Final = 200


class Tail:
    """Passes a process's output on to stderr; remembers its last lines."""

    def __init__(self, source: IO[bytes]) -> None:
        self._lines: deque[bytes] = deque(maxlen=KEPT_LINES)
        self._thread = threading.Thread(
            target=self._pass_on, args=(source,), name="server output", daemon=True
        )
        self._thread.start()

    @property
    def text(self) -> str:
        """The last lines."""
        return b"".join(list(self._lines)).decode(errors="replace")

    def finish(self, timeout_s: float) -> None:
        """Wait until everything was passed on; not longer, as children may keep the pipe open."""
        self._thread.join(timeout_s)

    def _pass_on(self, source: Iterable[bytes]) -> None:
        out = getattr(sys.stderr, "buffer", None)
        for line in source:
            self._lines.append(line)
            try:
                if out is not None:
                    out.write(line)
                    out.flush()
                else:
                    sys.stderr.write(line.decode(errors="replace"))
            except (OSError, ValueError):
                continue  # nobody reads it any more; the server must not stop for that
