"""Streaming execution of a plan: each source tensor is read once, into all files it goes to.

Pieces that need no change are copied inside the kernel, and then read for numbers that are none;
others pass through buffers of a few megabytes, so anonymous memory does not depend on the model's
size. What becomes FP8 is read twice, one group after the other: the second time it mostly still
lies in the page cache.
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llmjp_builder.contracts.errors import BadTensors
from llmjp_builder.convert import fp8
from llmjp_builder.convert.cast import ValueTooLarge, cast_rows
from llmjp_builder.convert.finite import find_non_finite
from llmjp_builder.convert.header import ITEM_BYTES, TensorInfo
from llmjp_builder.convert.source_files import SourceFiles
from llmjp_builder.convert.splits import to_matrix_shape
from llmjp_builder.store.files import os_errors
from llmjp_builder.threads import run_in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from llmjp_builder.convert.amax import Amax
    from llmjp_builder.convert.conversion_plan import (
        ConversionPlan,
        Copy,
        Fp8Group,
        RankFile,
        Slot,
        Transfer,
    )

_KERNEL_PIECE = 32 << 20
"""Bytes per task where the kernel copies."""
_BUFFER_PIECE = 8 << 20
"""Bytes per task where the data passes through memory."""
_NO_KERNEL_COPY = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}

_Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _CopyTask:
    """Some rows of one source tensor, for all copies made of them."""

    transfer: Transfer
    begin: int
    end: int
    table: _Bytes | None = None
    """If set, maps the bits of the transfer's element type to the FP8 bits to write."""

    def select_rows(self, copy: Copy) -> range:
        """Return the rows of this task that `copy` takes."""
        block = copy.block
        return range(max(self.begin, block.row), min(self.end, block.row + block.num_rows))


def execute_plan(
    plan: ConversionPlan, directory: Path, on_bytes: Callable[[int], None], amax: Amax | None = None
) -> None:
    """Write the plan's files into `directory`, and wait until they are on the disk.

    Args:
        plan: what to write.
        directory: exists; after an error it holds partial files, for the caller to remove.
        on_bytes: called with the number of bytes just written, from several threads.
        amax: what the plan's constants are made of; needed if it has any.

    Raises:
        NotEnoughDisk: the disk filled up.
        BadTensors: a value is infinite or NaN or does not fit the new dtype, tensors that must be
            equal differ, or one cannot be quantised.
        SourceChanged: a source file was written to meanwhile.
    """
    with ExitStack() as stack:
        sources = SourceFiles(stack)
        for one, other in plan.equal:
            _require_equal(sources, one, other)
        with os_errors(directory, needed=plan.size):
            outputs = [_create_file(stack, directory, file) for file in plan.files]
        writer = _Writer(sources, outputs, on_bytes)

        def run(task: _CopyTask) -> None:
            with os_errors(directory, needed=plan.size):
                writer.run_task(task)

        for constant in plan.constants:
            assert amax is not None, "the plan has constants"
            _write_number(outputs, constant.slot, amax.compute_scale(constant.scale))
        run_in_threads(run, _list_tasks(plan.transfers))
        for group in plan.fp8_groups:
            scale, table = _compute_quantisation(group, writer)
            for slot in group.scales:
                _write_number(outputs, slot, scale)
            run_in_threads(run, _list_tasks(group.transfers, table, buffered=True))
        with os_errors(directory, needed=plan.size):
            run_in_threads(os.fsync, outputs)
        sources.require_unchanged()


def _compute_quantisation(group: Fp8Group, writer: _Writer) -> tuple[np.float32, _Bytes]:
    """Return the group's scale, and the table of bits to write by the bits that are read."""
    magnitude = max(
        run_in_threads(writer.find_largest_magnitude, _list_tasks(group.transfers, buffered=True))
    )
    dtype = group.transfers[0].dtype
    try:
        scale = fp8.compute_weight_scale(magnitude, dtype)
        return scale, fp8.build_cast_table(dtype, scale, group.rounding)
    except fp8.NotQuantisable as exc:
        names = " and ".join(transfer.source.name for transfer in group.transfers)
        raise BadTensors(f"{group.transfers[0].source.file}: {names}: {exc}") from exc


@dataclass(frozen=True, slots=True)
class _Writer:
    """Runs tasks, in several threads at once: no two tasks write the same bytes."""

    sources: SourceFiles
    outputs: list[int]
    on_bytes: Callable[[int], None]

    def run_task(self, task: _CopyTask) -> None:
        """Copy the task's rows, in the kernel where the bytes do not change."""
        if task.table is None and _is_copied_by_kernel(task.transfer):
            for copy in task.transfer.copies:
                self._copy_in_kernel(task, copy)
            self._check_copied(task)
            return
        rows = self._read_rows(task)
        if task.table is not None:
            rows = fp8.look_up(rows.view(np.uint16), task.table)
        for copy in task.transfer.copies:
            self._write_block(task, copy, rows)

    def find_largest_magnitude(self, task: _CopyTask) -> int:
        """Return the largest magnitude among the task's elements (`fp8.find_largest_magnitude`)."""
        return fp8.find_largest_magnitude(self._read_rows(task).view(np.uint16))

    def _copy_in_kernel(self, task: _CopyTask, copy: Copy) -> None:
        source = task.transfer.source
        rows = task.select_rows(copy)
        width = _count_row_bytes(source, source.dtype)
        begin, size = rows.start * width, len(rows) * width
        target = copy.offset + (rows.start - copy.block.row) * width
        output, descriptor = self.outputs[copy.file], self.sources.open_descriptor(source.file)
        first, done = source.offset + begin, 0
        while done < size:
            count = _copy_file_range(
                descriptor, first + done, output, target + done, size=size - done
            )
            if count == 0:
                piece = self.sources.read(source, begin + done, min(size - done, _BUFFER_PIECE))
                _write(output, piece, target + done)
                count = len(piece)
            done += count
        self._finish(output, target, size)

    def _check_copied(self, task: _CopyTask) -> None:
        """Read what the kernel copied, which still lies in the page cache, for its numbers."""
        source = task.transfer.source
        width = _count_row_bytes(source, source.dtype)
        end = task.end * width
        for begin in range(task.begin * width, end, _BUFFER_PIECE):
            data = self.sources.read(source, begin, min(_BUFFER_PIECE, end - begin))
            _require_finite(source, data, begin // ITEM_BYTES[source.dtype])

    def _read_rows(self, task: _CopyTask) -> _Bytes:
        """Return the task's rows in the new element type, [rows, bytes]."""
        source, dtype = task.transfer.source, task.transfer.dtype
        width = _count_row_bytes(source, source.dtype)
        data = self.sources.read(source, task.begin * width, (task.end - task.begin) * width)
        rows = data.reshape(-1, width)
        if task.table is None:  # a table is made of magnitudes that were found finite
            _require_finite(source, data, task.begin * width // ITEM_BYTES[source.dtype])
        if source.dtype == dtype:
            return rows
        try:
            return cast_rows(rows, source.dtype, dtype)
        except ValueTooLarge as exc:
            raise BadTensors(f"{source.file}: {source.name}: {exc}; choose another dtype") from exc

    def _write_block(self, task: _CopyTask, copy: Copy, rows: _Bytes) -> None:
        block, taken = copy.block, task.select_rows(copy)
        item = ITEM_BYTES[task.transfer.dtype] if task.table is None else 1
        first, last = block.column * item, (block.column + block.num_columns) * item
        part = rows[taken.start - task.begin : taken.stop - task.begin, first:last]
        if block.zero_columns:
            part = np.pad(part, ((0, 0), (0, block.zero_columns * item)))
        output = self.outputs[copy.file]
        offset = copy.offset + (taken.start - block.row) * block.shape[1] * item
        _write(output, np.ascontiguousarray(part).reshape(-1), offset)
        self._finish(output, offset, part.size)

    def _finish(self, output: int, offset: int, size: int) -> None:
        """Start write-back now, so that the final fsync has little left to wait for.

        On Linux this advice starts write-back without waiting; pages being written stay cached.
        """
        if size > 0:
            os.posix_fadvise(output, offset, size, os.POSIX_FADV_DONTNEED)
            self.on_bytes(size)


def _require_finite(source: TensorInfo, data: _Bytes, first: int) -> None:
    """Raise if a number is none; `first` is the index of the first one in the tensor."""
    found = find_non_finite(data, source.dtype)
    if found is not None:
        raise BadTensors(
            f"{source.file}: {source.name}: holds infinity or NaN, first at element "
            f"{first + found:,}; such a model gives no text, so take another checkpoint"
        )


def _copy_file_range(source: int, begin: int, output: int, target: int, *, size: int) -> int:
    """Copy from `begin` of `source` to `target` of `output`; return the bytes copied.

    Returns 0 where the kernel cannot copy.
    """
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


def _write_number(outputs: list[int], slot: Slot, number: np.float32) -> None:
    _write(outputs[slot.file], np.frombuffer(number.tobytes(), np.uint8), slot.offset)


def _create_file(stack: ExitStack, directory: Path, file: RankFile) -> int:
    """Create a file of its final size, zero except for the header."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    descriptor = os.open(directory / file.name, flags, 0o666)
    stack.callback(os.close, descriptor)
    os.ftruncate(descriptor, file.size)
    _write(descriptor, np.frombuffer(file.header, np.uint8), 0)
    return descriptor


def _list_tasks(
    transfers: Iterable[Transfer], table: _Bytes | None = None, *, buffered: bool = False
) -> Iterator[_CopyTask]:
    for transfer in transfers:
        num_rows, _ = to_matrix_shape(transfer.source.shape)
        width = _count_row_bytes(transfer.source, transfer.source.dtype)
        in_kernel = not buffered and _is_copied_by_kernel(transfer)
        piece = _KERNEL_PIECE if in_kernel else _BUFFER_PIECE
        step = max(1, piece // width)
        for begin in range(0, num_rows, step):
            yield _CopyTask(transfer, begin, min(begin + step, num_rows), table)


def _is_copied_by_kernel(transfer: Transfer) -> bool:
    """Return whether whole rows are written as they are read."""
    rows = to_matrix_shape(transfer.source.shape)
    return transfer.source.dtype == transfer.dtype and all(
        copy.block.shape[1] == copy.block.num_columns == rows[1] for copy in transfer.copies
    )


def _count_row_bytes(tensor: TensorInfo, dtype: str) -> int:
    return to_matrix_shape(tensor.shape)[1] * ITEM_BYTES[dtype]


def _require_equal(sources: SourceFiles, one: TensorInfo, other: TensorInfo) -> None:
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
