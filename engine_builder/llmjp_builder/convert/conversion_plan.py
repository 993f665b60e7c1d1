"""The conversion plan: which bytes of which source tensor go where. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.convert.header import ITEM_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_builder.convert.fp8 import Rounding
    from llmjp_builder.convert.header import TensorInfo
    from llmjp_builder.convert.splits import Block, ScaleRule


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in one of the plan's files."""

    file: int
    """Index into `ConversionPlan.files`."""
    offset: int
    """In bytes, from the start of the file."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A block of one source tensor, and where its rows begin, one after the other."""

    block: Block
    file: int
    """Index into `ConversionPlan.files`."""
    offset: int
    """In bytes, from the start of the file."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """All copies made of one source tensor, which is read once."""

    source: TensorInfo
    dtype: str
    """The element type to convert to; for a member of an FP8 group, before it is quantised."""
    copies: tuple[Copy, ...]


@dataclass(frozen=True, slots=True)
class Fp8Group:
    """Tensors that share one scale. Each is read twice, the first time for the scale."""

    transfers: tuple[Transfer, ...]
    scales: tuple[Slot, ...]
    """Where the scale goes, a float32 each."""
    rounding: Rounding


@dataclass(frozen=True, slots=True)
class Constant:
    """A float32 derived from calibration, and its place."""

    scale: ScaleRule
    slot: Slot


@dataclass(frozen=True, slots=True)
class RankFile:
    """One file of the result. Bytes that nothing fills are zero."""

    name: str
    header: bytes
    size: int
    """In bytes, the header included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionPlan:
    """Everything that `execute_plan` does."""

    files: tuple[RankFile, ...]
    """By rank."""
    transfers: tuple[Transfer, ...]
    """In the order of the source's bytes."""
    fp8_groups: tuple[Fp8Group, ...] = ()
    """In the order of the source's bytes."""
    constants: tuple[Constant, ...] = ()
    equal: tuple[tuple[TensorInfo, TensorInfo], ...]
    """Pairs that must hold the same bytes; checked before anything is written."""
    ignored: tuple[str, ...]
    """Source tensors that are dropped on purpose."""
    casts: Mapping[str, int]
    """Number of source tensors converted from another element type, by that type."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def transfer_bytes(self) -> int:
        """Bytes of source tensors that `execute_plan` writes; its progress is measured by them."""
        plain = sum(_count_elements(t) * ITEM_BYTES[t.dtype] for t in self.transfers)
        quantised = sum(_count_elements(t) for group in self.fp8_groups for t in group.transfers)
        return plain + quantised


def _count_elements(transfer: Transfer) -> int:
    return sum(copy.block.num_rows * copy.block.shape[1] for copy in transfer.copies)
