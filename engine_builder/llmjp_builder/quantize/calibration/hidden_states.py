"""Hidden states between two layers, one row per token, in a file: memory holds one text at a time.

Read and written with calls, never mapped: a full disk is an error then, not a signal. The system
keeps the file in memory as long as there is room, so it costs a disk nothing where it is small. A
checksum tells a file that was written whole from one that a crash of the machine left in pieces;
nothing is fsynced, since losing it costs only time.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from llmjp_builder.contracts.errors import DiskFailed
from llmjp_builder.store.files import os_errors

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    import numpy.typing as npt

_PIECE = 16 << 20


@dataclass(frozen=True, slots=True)
class HiddenStateShape:
    """Shape of a file of hidden states: one row per token."""

    num_rows: int
    width: int
    dtype: torch.dtype
    """A type of two bytes."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one token."""
        return self.width * self.dtype.itemsize

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.num_rows * self.row_bytes


class HiddenStateReader:
    """Reads rows of a file in any order."""

    def __init__(self, path: Path, rows: HiddenStateShape, stack: ExitStack) -> None:
        self._path, self._rows = path, rows
        with os_errors(path):
            self._descriptor = os.open(path, os.O_RDONLY)
        stack.callback(os.close, self._descriptor)

    def read(self, begin: int, end: int) -> torch.Tensor:
        """Read the rows from `begin` to `end`, [end - begin, width]."""
        width = self._rows.row_bytes
        buffer = self._read(begin * width, (end - begin) * width)
        return torch.from_numpy(buffer).view(self._rows.dtype).view(end - begin, -1)

    def compute_checksum(self) -> int:
        """Return the checksum of the whole file."""
        value, size = 0, self._rows.size
        for begin in range(0, size, _PIECE):
            value = zlib.crc32(self._read(begin, min(_PIECE, size - begin)).data, value)
        return value

    def _read(self, begin: int, size: int) -> npt.NDArray[np.uint8]:
        buffer = np.empty(size, np.uint8)
        done = 0
        while done < size:
            with os_errors(self._path):
                count = os.preadv(self._descriptor, [buffer.data[done:]], begin + done)
            if count == 0:
                raise DiskFailed(f"{self._path}: shorter than it was written; try again")
            done += count
        return buffer


class HiddenStateWriter:
    """Writes rows to a file in order, replacing its contents."""

    def __init__(self, path: Path, rows: HiddenStateShape, stack: ExitStack) -> None:
        self._path, self._rows = path, rows
        with os_errors(path, needed=rows.size):
            self._file = stack.enter_context(path.open("wb", buffering=0))
        self.checksum = 0
        """Checksum of what was written so far."""

    def write(self, tensor: torch.Tensor) -> None:
        """Append rows, [any, width]."""
        host = tensor.to("cpu", self._rows.dtype).contiguous()
        view = host.view(torch.uint8).numpy().data.cast("B")
        self.checksum = zlib.crc32(view, self.checksum)
        with os_errors(self._path, needed=self._rows.size):
            while view:
                view = view[self._file.write(view) :]
