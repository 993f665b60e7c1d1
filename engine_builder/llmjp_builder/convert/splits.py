"""Splits: how a rank's part is cut out of a source tensor. Geometry without bytes, all pure.

A tensor is seen as a matrix [rows, columns]; a vector [n] is [n, 1]. A rank takes a `Block` of it.
The parts of a rule lie below each other in the rank's tensor, so each fills one range of bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A rectangle of a source matrix, as it lands in a rank's tensor."""

    row: int
    num_rows: int
    column: int
    num_columns: int
    zero_rows: int = 0
    """Rows of zeros below it."""
    zero_columns: int = 0
    """Columns of zeros to the right of it."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns in the rank's tensor, zeros included."""
        return self.num_rows + self.zero_rows, self.num_columns + self.zero_columns


class Split(Protocol):
    """One way to divide a tensor over the ranks that share a layer."""

    def cut(self, shape: Shape, world: int, rank: int, /) -> Block:
        """Return the block that `rank` of `world` takes of a tensor of `shape`."""
        ...


@dataclass(frozen=True, slots=True)
class NoSplit:
    """Every rank takes the whole tensor."""

    def cut(self, shape: Shape, _world: int, _rank: int, /) -> Block:
        """Return the whole tensor."""
        rows, columns = to_matrix_shape(shape)
        return Block(0, rows, 0, columns)


@dataclass(frozen=True, slots=True)
class RowSplit:
    """Dimension 0 in equal parts (column parallel, as [out, in] weights are stored)."""

    zeros: int = 0
    """Rows of zeros below each part."""

    def cut(self, shape: Shape, world: int, rank: int, /) -> Block:
        """Cut [n, d] to [n / world + zeros, d]."""
        rows, columns = to_matrix_shape(shape)
        share = _divide_exactly(rows, world)
        return Block(rank * share, share, 0, columns, zero_rows=self.zeros)


@dataclass(frozen=True, slots=True)
class PaddedRowSplit:
    """Dimension 0 in equal parts, after rows of zeros fill it up to a multiple of the world.

    As `pad_vocab_size` and `ModelWeightsLoader` of TensorRT-LLM do.
    """

    def cut(self, shape: Shape, world: int, rank: int, /) -> Block:
        """Cut [n, d] to [ceil(n / world), d]."""
        rows, columns = to_matrix_shape(shape)
        share = -(-rows // world)
        begin, end = (min(rows, i * share) for i in (rank, rank + 1))
        return Block(begin, end - begin, 0, columns, zero_rows=share - (end - begin))


@dataclass(frozen=True, slots=True)
class ColumnSplit:
    """Dimension 1 in equal parts (row parallel)."""

    zeros: int = 0
    """Columns of zeros to the right of each part."""

    def cut(self, shape: Shape, world: int, rank: int, /) -> Block:
        """Cut [n, d] to [n, d / world + zeros]."""
        rows, columns = to_matrix_shape(shape)
        share = _divide_exactly(columns, world)
        return Block(0, rows, rank * share, share, zero_columns=self.zeros)


@dataclass(frozen=True, slots=True)
class HeadSplit:
    """Dimension 0 by attention heads; with fewer heads than ranks, neighbours share a head.

    As `dup_kv_weight` of TensorRT-LLM does: heads are repeated, then divided.
    """

    num_heads: int

    def cut(self, shape: Shape, world: int, rank: int, /) -> Block:
        """Cut [heads * size, d] to [max(heads / world, 1) * size, d]."""
        rows, columns = to_matrix_shape(shape)
        head_size = _divide_exactly(rows, self.num_heads)
        if self.num_heads >= world:
            share = _divide_exactly(self.num_heads, world) * head_size
            return Block(rank * share, share, 0, columns)
        copies = _divide_exactly(world, self.num_heads)
        return Block(rank // copies * head_size, head_size, 0, columns)


def to_matrix_shape(shape: Shape) -> tuple[int, int]:
    """Return rows and columns of a vector or matrix; a vector has one column."""
    rows, columns = shape if len(shape) == 2 else (*shape, 1)
    return rows, columns


def _divide_exactly(total: int, parts: int) -> int:
    share, rest = divmod(total, parts)
    assert rest == 0, f"{total} is not a multiple of {parts}: the layout was not checked"
    return share


@dataclass(frozen=True, slots=True)
class SourcePart:
    """A source tensor, the shape it must have, and how it is divided."""

    source: str
    shape: Shape
    split: Split


@dataclass(frozen=True, slots=True)
class TensorRule:
    """One tensor of a rank: its parts, stacked by rows."""

    target: str
    parts: tuple[SourcePart, ...]
    fp8_group: str | None = None
    """Stored in FP8. All sources of one group's rules share one scale, which each of these rules
    has beside its tensor; a group's name is unique in the model."""

    def cut_blocks(self, world: int, rank: int) -> tuple[Block, ...]:
        """Return the rank's block of each part."""
        return tuple(part.split.cut(part.shape, world, rank) for part in self.parts)

    def compute_shape(self, world: int, rank: int) -> Shape:
        """Return the shape of the rank's tensor."""
        shapes = [block.shape for block in self.cut_blocks(world, rank)]
        rows = sum(num_rows for num_rows, _ in shapes)
        return (rows,) if len(self.parts[0].shape) == 1 else (rows, shapes[0][1])


@dataclass(frozen=True, slots=True)
class ScaleRule:
    """A float32 scale beside the tensors: the largest of some amax, divided by FP8's maximum."""

    target: str
    amax_of: tuple[str, ...]
    """Names of activations in `Amax`."""
    least: float = 0.0
    """Lower bound of the scale."""
