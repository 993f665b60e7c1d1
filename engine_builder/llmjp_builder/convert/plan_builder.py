"""Builder of plans: gives each rule's tensor a place and each source tensor its copies. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmjp_builder.convert import fp8
from llmjp_builder.convert.conversion_plan import (
    Constant,
    ConversionPlan,
    Copy,
    Fp8Group,
    RankFile,
    Slot,
    Transfer,
)
from llmjp_builder.convert.header import ITEM_BYTES, NewTensor, TensorInfo, render_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llmjp_builder.convert.splits import ScaleRule, Shape, TensorRule

_SCALE_DTYPE = "F32"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointStyle:
    """The form of FP8 scales and the rounding of weights in one kind of checkpoint."""

    weight_scale: str
    """Replaces the last word, `weight`, in the name of a quantised tensor."""
    scale_shape: Shape
    rounding: fp8.Rounding
    metadata: Mapping[str, str] | None = None
    """Metadata in every file's header."""


@dataclass(slots=True)
class PlanBuilder:
    """A plan under construction."""

    dtype: str
    """safetensors' name of the element type of tensors that are not quantised."""
    style: CheckpointStyle
    files: list[RankFile] = field(default_factory=list)
    copies: dict[str, list[Copy]] = field(default_factory=dict)
    """By source tensor."""
    groups: dict[str, dict[str, None]] = field(default_factory=dict)
    """Source tensors of an FP8 group, in order and once each, by the group's name."""
    group_slots: dict[str, list[Slot]] = field(default_factory=dict)
    constants: list[Constant] = field(default_factory=list)

    def add_file(
        self,
        name: str,
        rules: Iterable[TensorRule],
        scales: Iterable[ScaleRule],
        *,
        world: int = 1,
        rank: int = 0,
    ) -> tuple[str, ...]:
        """Add the file of `rank` of `world`, and return the names of its tensors."""
        listed, numbers = list(rules), list(scales)
        shape = self.style.scale_shape
        new = [
            NewTensor(r.target, self._get_dtype(r), r.compute_shape(world, rank)) for r in listed
        ]
        new += [
            NewTensor(self._get_scale_name(r), _SCALE_DTYPE, shape) for r in listed if r.fp8_group
        ]
        new += [NewTensor(scale.target, _SCALE_DTYPE, shape) for scale in numbers]
        header, offsets = render_header(new, self.style.metadata)
        file = len(self.files)
        for rule in listed:
            self._place(rule, world, rank, Slot(file, offsets[rule.target]))
            if rule.fp8_group:
                slot = Slot(file, offsets[self._get_scale_name(rule)])
                self.group_slots.setdefault(rule.fp8_group, []).append(slot)
        self.constants += [Constant(scale, Slot(file, offsets[scale.target])) for scale in numbers]
        size = len(header) + sum(tensor.size for tensor in new)
        self.files.append(RankFile(name, header, size))
        return tuple(offsets)

    def build(
        self,
        tensors: Mapping[str, TensorInfo],
        *,
        equal: Mapping[str, str],
        ignored: Iterable[str],
    ) -> ConversionPlan:
        """Build the plan.

        Args:
            tensors: of the source, with every one that a rule names.
            equal: names of tensors that must hold the same bytes, if the first exists.
            ignored: names of tensors that are dropped on purpose, if they exist.
        """
        transfers = {n: Transfer(tensors[n], self.dtype, tuple(c)) for n, c in self.copies.items()}
        quantised = {name for members in self.groups.values() for name in members}
        groups = [
            Fp8Group(
                tuple(sorted((transfers[name] for name in members), key=_get_source_position)),
                tuple(self.group_slots[group]),
                self.style.rounding,
            )
            for group, members in self.groups.items()
        ]
        plain = [transfer for name, transfer in transfers.items() if name not in quantised]
        return ConversionPlan(
            files=tuple(self.files),
            transfers=tuple(sorted(plain, key=_get_source_position)),
            fp8_groups=tuple(sorted(groups, key=lambda g: _get_source_position(g.transfers[0]))),
            constants=tuple(self.constants),
            equal=tuple((tensors[a], tensors[b]) for a, b in equal.items() if a in tensors),
            ignored=tuple(name for name in ignored if name in tensors),
            casts=_count_casts((t.source.dtype for t in transfers.values()), self.dtype),
        )

    def _place(self, rule: TensorRule, world: int, rank: int, slot: Slot) -> None:
        offset = slot.offset
        for part, block in zip(rule.parts, rule.cut_blocks(world, rank), strict=True):
            self.copies.setdefault(part.source, []).append(Copy(block, slot.file, offset))
            rows, columns = block.shape
            offset += rows * columns * ITEM_BYTES[self._get_dtype(rule)]
            if rule.fp8_group:
                self.groups.setdefault(rule.fp8_group, {})[part.source] = None

    def _get_dtype(self, rule: TensorRule) -> str:
        return fp8.STORED_AS if rule.fp8_group else self.dtype

    def _get_scale_name(self, rule: TensorRule) -> str:
        return rule.target.removesuffix("weight") + self.style.weight_scale


def _get_source_position(transfer: Transfer) -> tuple[str, int]:
    return str(transfer.source.file), transfer.source.offset


def _count_casts(dtypes: Iterable[str], wanted: str) -> dict[str, int]:
    others = [dtype for dtype in dtypes if dtype != wanted]
    return {dtype: others.count(dtype) for dtype in sorted(set(others))}
