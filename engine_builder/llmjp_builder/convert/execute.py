"""A plan's bytes, streamed: each source tensor is read once, into all the rank files it goes to.

Pieces that need no change are copied inside the kernel; others pass through buffers of a few
megabytes, so anonymous memory does not depend on the model's size. Sources are read with read
calls, never mapped: a file that shrinks meanwhile is an error, not a signal.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llmjp_builder.convert.cast import ValueTooLarge, cast
from llmjp_builder.convert.header import ITEM_BYTES, TensorInfo
from llmjp_builder.convert.ops import as_matrix
from llmjp_builder.disk import os_errors, translated
from llmjp_builder.errors import BadTensors, SourceChanged
from llmjp_builder.threads import in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from llmjp_builder.convert.plan import Copy, Plan, RankFile, Transfer

_KERNEL_PIECE = 32 << 20
"""Bytes per task where the kernel copies."""
_BUFFER_PIECE = 8 << 20
"""Bytes per task where the data pass through memory."""
_NO_KERNEL_COPY = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}

_Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Task:
    """Some rows of one source tensor, for everything that is made of them."""

    transfer: Transfer
    begin: int
    end: int

    def rows_of(self, copy: Copy) -> range:
        """The rows that `copy` takes of this task."""
        block = copy.block
        return range(max(self.begin, block.row), min(self.end, block.row + block.num_rows))


def execute(plan: Plan, directory: Path, on_bytes: Callable[[int], None]) -> None:
    """Write the plan's files into `directory`, and wait until they are on the disk.

    Args:
        plan: what to write.
        directory: exists; after an error it holds partial files, for the caller to remove.
        on_bytes: called with the number of bytes just written, from several threads.

    Raises:
        NotEnoughDisk: the disk filled up.
        BadTensors: a value does not fit the new dtype, or tensors that must be equal differ.
        SourceChanged: a source file was written to meanwhile.
    """
    with ExitStack() as stack:
        sources = _Sources(stack)
        for one, other in plan.equal:
            _require_equal(sources, one, other)
        with os_errors(directory, needed=plan.size):
            outputs = [_create(stack, directory, file) for file in plan.files]
        writer = _Writer(sources, outputs, on_bytes)

        def run(task: _Task) -> None:
            try:
                writer.run(task)
            except OSError as exc:
                raise translated(exc, directory, needed=plan.size) from exc

        in_threads(run, _tasks(plan.transfers))
        with os_errors(directory, needed=plan.size):
            in_threads(os.fsync, outputs)
        sources.require_unchanged()


class _Sources:
    """Open source files, one descriptor each."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._lock = threading.Lock()
        self._open: dict[Path, tuple[int, os.stat_result]] = {}

    def descriptor(self, path: Path) -> int:
        """For reading; opened once."""
        with self._lock, os_errors(path):
            if path not in self._open:
                descriptor = os.open(path, os.O_RDONLY)
                self._stack.callback(os.close, descriptor)
                self._open[path] = descriptor, os.fstat(descriptor)
            return self._open[path][0]

    def read(self, tensor: TensorInfo, begin: int, size: int) -> _Bytes:
        """`size` bytes of the tensor, from its byte `begin`."""
        descriptor = self.descriptor(tensor.file)
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
        """Refuse if a file was written to since it was opened."""
        for path, (descriptor, before) in self._open.items():
            now = os.fstat(descriptor)
            if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise SourceChanged(f"{path}: was written to while it was converted; try again")


@dataclass(frozen=True, slots=True)
class _Writer:
    """Runs tasks; several threads may at once, since no two tasks write the same bytes."""

    sources: _Sources
    outputs: list[int]
    on_bytes: Callable[[int], None]

    def run(self, task: _Task) -> None:
        """Copy, in the kernel where the bytes stay as they are."""
        if _copied_by_kernel(task.transfer):
            for copy in task.transfer.copies:
                self._copy_in_kernel(task, copy)
            return
        rows = self._converted_rows(task)
        for copy in task.transfer.copies:
            self._write_block(task, copy, rows)

    def _copy_in_kernel(self, task: _Task, copy: Copy) -> None:
        source = task.transfer.source
        rows = task.rows_of(copy)
        width = _row_bytes(source, source.dtype)
        begin, size = rows.start * width, len(rows) * width
        target = copy.offset + (rows.start - copy.block.row) * width
        output, descriptor = self.outputs[copy.file], self.sources.descriptor(source.file)
        first, done = source.offset + begin, 0
        while done < size:
            count = _kernel_copy(descriptor, first + done, output, target + done, size=size - done)
            if count == 0:
                piece = self.sources.read(source, begin + done, min(size - done, _BUFFER_PIECE))
                _write(output, piece, target + done)
                count = len(piece)
            done += count
        self._finish(output, target, size)

    def _converted_rows(self, task: _Task) -> _Bytes:
        """The task's rows in the new element type, [rows, bytes]."""
        source, dtype = task.transfer.source, task.transfer.dtype
        width = _row_bytes(source, source.dtype)
        data = self.sources.read(source, task.begin * width, (task.end - task.begin) * width)
        rows = data.reshape(-1, width)
        if source.dtype == dtype:
            return rows
        try:
            return cast(rows, source.dtype, dtype)
        except ValueTooLarge as exc:
            raise BadTensors(f"{source.file}: {source.name}: {exc}; choose another dtype") from exc

    def _write_block(self, task: _Task, copy: Copy, rows: _Bytes) -> None:
        block, taken = copy.block, task.rows_of(copy)
        item = ITEM_BYTES[task.transfer.dtype]
        first, last = block.column * item, (block.column + block.num_columns) * item
        part = rows[taken.start - task.begin : taken.stop - task.begin, first:last]
        output = self.outputs[copy.file]
        offset = copy.offset + (taken.start - block.row) * (last - first)
        _write(output, np.ascontiguousarray(part).reshape(-1), offset)
        self._finish(output, offset, part.size)

    def _finish(self, output: int, offset: int, size: int) -> None:
        """Start writing to the disk now: the final fsync then has little left to wait for.

        On Linux this advice starts write-back without waiting; pages being written stay cached.
        """
        if size > 0:
            os.posix_fadvise(output, offset, size, os.POSIX_FADV_DONTNEED)
            self.on_bytes(size)


def _kernel_copy(source: int, begin: int, output: int, target: int, *, size: int) -> int:
    """Bytes copied, from `begin` of `source` to `target` of `output`; 0 where it is impossible."""
    try:
        return os.copy_file_range(source, output, size, begin, target)
    except OSError as exc:
        if exc.errno in _NO_KERNEL_COPY:
            return 0
        raise


def _write(output: int, data: _Bytes, offset: int) -> None:
    view, done = data.data, 0
    while done < len(view):
        done += os.pwrite(output, view[done:], offset + done)


def _create(stack: ExitStack, directory: Path, file: RankFile) -> int:
    """A new file of its final size, zero but for the header."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    descriptor = os.open(directory / file.name, flags, 0o666)
    stack.callback(os.close, descriptor)
    os.ftruncate(descriptor, file.size)
    _write(descriptor, np.frombuffer(file.header, np.uint8), 0)
    return descriptor


def _tasks(transfers: Iterable[Transfer]) -> Iterator[_Task]:
    for transfer in transfers:
        num_rows, _ = as_matrix(transfer.source.shape)
        width = _row_bytes(transfer.source, transfer.source.dtype)
        piece = _KERNEL_PIECE if _copied_by_kernel(transfer) else _BUFFER_PIECE
        step = max(1, piece // width)
        for begin in range(0, num_rows, step):
            yield _Task(transfer, begin, min(begin + step, num_rows))


def _copied_by_kernel(transfer: Transfer) -> bool:
    """Whether whole rows go out as they came in."""
    _, columns = as_matrix(transfer.source.shape)
    return transfer.source.dtype == transfer.dtype and all(
        copy.block.num_columns == columns for copy in transfer.copies
    )


def _row_bytes(tensor: TensorInfo, dtype: str) -> int:
    return as_matrix(tensor.shape)[1] * ITEM_BYTES[dtype]


def _require_equal(sources: _Sources, one: TensorInfo, other: TensorInfo) -> None:
    same = (one.dtype, one.shape) == (other.dtype, other.shape)
    for begin in range(0, one.size if same else 0, _BUFFER_PIECE):
        size = min(_BUFFER_PIECE, one.size - begin)
        same = np.array_equal(sources.read(one, begin, size), sources.read(other, begin, size))
        if not same:
            break
    if not same:
        raise BadTensors(
            f"{one.file}: {one.name} differs from {other.name}, but config.json says that they are "
            "tied (tie_word_embeddings)"
        )
