"""Source files, read in pieces by many threads; a file that changes meanwhile is an error.

Files are read with read calls, never mapped, so a file that shrinks raises an error, not a signal.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import numpy as np

from llmjp_builder.contracts.errors import SourceChanged
from llmjp_builder.store.files import os_errors

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    import numpy.typing as npt

    from llmjp_builder.convert.header import TensorInfo


class SourceFiles:
    """Open source files, one descriptor each."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._lock = threading.Lock()
        self._open: dict[Path, tuple[int, os.stat_result]] = {}

    def open_descriptor(self, path: Path) -> int:
        """Return the descriptor for reading a file, which is opened once."""
        with self._lock, os_errors(path):
            if path not in self._open:
                descriptor = os.open(path, os.O_RDONLY)
                self._stack.callback(os.close, descriptor)
                self._open[path] = descriptor, os.fstat(descriptor)
            return self._open[path][0]

    def read(self, tensor: TensorInfo, begin: int, size: int) -> npt.NDArray[np.uint8]:
        """Read `size` bytes of the tensor, from its byte `begin`."""
        descriptor = self.open_descriptor(tensor.file)
        buffer = np.empty(size, np.uint8)
        view, done = buffer.data, 0
        while done < size:
            with os_errors(tensor.file):
                count = os.preadv(descriptor, [view[done:]], tensor.offset + begin + done)
            if count == 0:
                raise SourceChanged(f"{tensor.file}: became shorter while it was read")
            done += count
        return buffer

    def require_unchanged(self) -> None:
        """Raise if a file was written to since it was opened."""
        for path, (descriptor, before) in self._open.items():
            now = os.fstat(descriptor)
            if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise SourceChanged(f"{path}: was written to while it was converted; try again")
