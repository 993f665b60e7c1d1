"""The plan of a conversion: every output byte is accounted for before one is read. Pure.

The plan is the header: shapes, offsets and sizes of all rank files follow from the source's
headers, so execution writes headers first and streams the rest; a dry run is the plan itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.convert.families import llama
from llmjp_builder.convert.header import ITEM_BYTES, NewTensor, TensorInfo, new_header
from llmjp_builder.errors import BadTensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from llmjp_builder.convert.layout import Layout
    from llmjp_builder.convert.model_config import ModelConfig
    from llmjp_builder.convert.ops import Block, Rule

FAMILIES = {"LlamaForCausalLM": llama}
"""Module of rules, by architecture."""

STORED_AS = {"bfloat16": "BF16", "float16": "F16"}
"""safetensors' name of a layout's dtype."""

_CONVERTIBLE = ("BF16", "F16", "F32")


@dataclass(frozen=True, slots=True)
class Copy:
    """A block of one source tensor, and where in which file its rows go, one after the other."""

    block: Block
    file: int
    """Index into `Plan.files`."""
    offset: int
    """In bytes, from the start of the file."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Everything that is made of one source tensor: it is read once."""

    source: TensorInfo
    dtype: str
    """The element type to convert to."""
    copies: tuple[Copy, ...]


@dataclass(frozen=True, slots=True)
class RankFile:
    """One file of the result. Bytes that no transfer fills are zero."""

    name: str
    header: bytes
    size: int
    """In bytes, the header included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `execute` does."""

    files: tuple[RankFile, ...]
    """By rank."""
    transfers: tuple[Transfer, ...]
    """In the order of the source's bytes."""
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
        """Bytes that `execute` writes after the headers: the measure of its progress."""
        return sum(
            copy.block.num_rows * copy.block.num_columns * ITEM_BYTES[transfer.dtype]
            for transfer in self.transfers
            for copy in transfer.copies
        )


def plan(
    tensors: Mapping[str, TensorInfo], config: ModelConfig, layout: Layout, folder: Path
) -> Plan:
    """The plan to divide `tensors` as `layout` says.

    Args:
        tensors: of the source.
        config: of the source.
        layout: checked against `config`.
        folder: of the source, for messages.

    Raises:
        BadTensors: a tensor is missing, unknown, or has an unexpected shape or dtype.
    """
    family = FAMILIES[config.architecture]
    stages = [family.rules(config, layout, stage) for stage in range(layout.pipeline_parallel)]
    every_rule = [rule for stage in stages for rule in stage]
    ignored, duplicates = family.ignored(config), family.duplicates(config)
    _check_coverage(tensors, every_rule, {*ignored, *duplicates}, folder)
    dtype = STORED_AS[layout.dtype]
    files: list[RankFile] = []
    copies: dict[str, list[Copy]] = {}
    for rules in stages:
        for rank in range(layout.tensor_parallel):
            files.append(_place(rules, layout.tensor_parallel, rank, dtype, len(files), copies))
    transfers = [Transfer(tensors[name], dtype, tuple(c)) for name, c in copies.items()]
    return Plan(
        files=tuple(files),
        transfers=tuple(sorted(transfers, key=lambda t: (t.source.file, t.source.offset))),
        equal=tuple((tensors[a], tensors[b]) for a, b in duplicates.items() if a in tensors),
        ignored=tuple(name for name in ignored if name in tensors),
        casts=_casts((transfer.source.dtype for transfer in transfers), dtype),
    )


def _place(  # noqa: PLR0917 - one rank's coordinates
    rules: tuple[Rule, ...],
    world: int,
    rank: int,
    dtype: str,
    file: int,
    copies: dict[str, list[Copy]],
) -> RankFile:
    """One rank's file; what is to be copied into it is added to `copies`."""
    new = [NewTensor(rule.target, dtype, rule.shape(world, rank)) for rule in rules]
    header, offsets = new_header(new)
    for rule in rules:
        offset = offsets[rule.target]
        for part, block in zip(rule.parts, rule.blocks(world, rank), strict=True):
            copies.setdefault(part.source, []).append(Copy(block, file, offset))
            rows = block.num_rows + block.zero_rows
            offset += rows * block.num_columns * ITEM_BYTES[dtype]
    size = len(header) + sum(tensor.size for tensor in new)
    return RankFile(f"rank{file}.safetensors", header, size)


def _check_coverage(
    tensors: Mapping[str, TensorInfo], rules: list[Rule], dropped: set[str], folder: Path
) -> None:
    """Everything needed is there and fits; everything there is needed or dropped by name."""
    parts = {part.source: part for rule in rules for part in rule.parts}
    if missing := [name for name in parts if name not in tensors]:
        raise BadTensors(f"{folder}: {_some(missing)} missing; config.json asks for it")
    if extra := [name for name in tensors if name not in parts and name not in dropped]:
        raise BadTensors(
            f"{tensors[extra[0]].file}: {_some(extra)} unknown; config.json describes a model "
            "without it"
        )
    for name, part in parts.items():
        tensor = tensors[name]
        if tensor.dtype not in _CONVERTIBLE:
            raise BadTensors(
                f"{tensor.file}: {name}: dtype {tensor.dtype}; "
                f"expected one of {', '.join(_CONVERTIBLE)}"
            )
        if tensor.shape != part.shape:
            raise BadTensors(
                f"{tensor.file}: {name}: shape {list(tensor.shape)}; "
                f"config.json implies {list(part.shape)}"
            )


def _some(names: list[str]) -> str:
    """The first of `names`, and how many more there are, with the verb."""
    more = f" and {len(names) - 1} more tensor(s) are" if len(names) > 1 else " is"
    return f"tensor {names[0]}{more}"


def _casts(dtypes: Iterable[str], wanted: str) -> dict[str, int]:
    others = [dtype for dtype in dtypes if dtype != wanted]
    return {dtype: others.count(dtype) for dtype in sorted(set(others))}
