"""Headers of safetensors files, read and written by hand; no tensor is read.

The format: https://github.com/huggingface/safetensors#format. A header is trusted only once all of
it agrees with the file's size, so it can never cause an allocation larger than itself.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmjp_builder.contracts.errors import BadHeader
from llmjp_builder.store.files import get_regular_file_size, os_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

MAX_HEADER_BYTES = 32 << 20
"""Room for a hundred times the tensors of the largest llm-jp-3; the library allows 100 MB."""

ITEM_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E5M2": 1,
    "F8_E4M3": 1,
    "F8_E8M0": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "F64": 8,
    "I64": 8,
    "U64": 8,
}
"""Bytes per element, by safetensors' names of dtypes."""

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """The place of one tensor in a file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    """Offset of its first byte from the start of the file."""
    size: int
    """In bytes."""


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Read the header of a safetensors file; return its tensors by name.

    Raises:
        BadHeader: anything in the header is malformed, or disagrees with the file's size.
        MissingFile: there is no such file.
    """
    file_size = get_regular_file_size(path)
    if file_size < _LENGTH.size:
        raise BadHeader(f"{path}: {file_size} bytes are too few for a safetensors file")
    with os_errors(path), path.open("rb") as file:
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        if length > min(file_size - _LENGTH.size, MAX_HEADER_BYTES):
            raise BadHeader(
                f"{path}: header length {length:,} is impossible in a file of {file_size:,} bytes; "
                "the file is truncated or not safetensors"
            )
        text = file.read(length)
    return parse_header(text, path, file_size)


def parse_header(text: bytes, path: Path, file_size: int) -> dict[str, TensorInfo]:
    """Parse the text of a header; return the tensors by name. Pure.

    Raises:
        BadHeader: as `read_header`.
    """
    start = _LENGTH.size + len(text)
    try:
        members = json.loads(text.decode(), object_pairs_hook=_refuse_duplicates)
    except (ValueError, RecursionError) as exc:
        raise BadHeader(f"{path}: the header is not valid JSON: {exc}") from exc
    if not isinstance(members, dict):
        raise BadHeader(f"{path}: the header is not a JSON object")
    metadata = members.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise BadHeader(f"{path}: __metadata__ must be an object of strings")
    tensors = {name: _parse_tensor(name, entry, path, start) for name, entry in members.items()}
    _check_tiling(tensors.values(), path, start, file_size)
    return tensors


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError(f"{name!r} is there twice")
        members[name] = value
    return members


def _parse_tensor(name: str, entry: Any, path: Path, start: int) -> TensorInfo:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [begin, end]}:
            pass
        case _:
            raise BadHeader(f"{path}: {name}: expected dtype, shape and data_offsets in the header")
    if dtype not in ITEM_BYTES:
        raise BadHeader(f"{path}: {name}: unknown dtype {dtype[:40]!r}")
    if not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
        raise BadHeader(f"{path}: {name}: shape and data_offsets must be integers, not negative")
    if len(shape) > 8:
        raise BadHeader(f"{path}: {name}: {len(shape)} dimensions are too many")
    size = math.prod(shape) * ITEM_BYTES[dtype]
    if end - begin != size:
        raise BadHeader(
            f"{path}: {name}: data_offsets span {end - begin} bytes, "
            f"but {dtype} {shape} takes {size}"
        )
    return TensorInfo(name, dtype, tuple(shape), path, start + begin, size)


def _check_tiling(tensors: Iterable[TensorInfo], path: Path, start: int, file_size: int) -> None:
    """Require that the tensors fill the file from `start` to its end without hole or overlap."""
    position = start
    for tensor in sorted(tensors, key=lambda t: (t.offset, t.size)):
        if tensor.offset != position:
            fault = "overlaps the tensor before it" if tensor.offset < position else "leaves a hole"
            raise BadHeader(
                f"{path}: {tensor.name}: {fault}: begins at byte {tensor.offset}, not {position}"
            )
        position += tensor.size
    if position != file_size:
        fault = "the file is truncated" if position > file_size else "something was appended"
        raise BadHeader(
            f"{path}: {file_size:,} bytes, but its header describes {position:,}: {fault}"
        )


@dataclass(frozen=True, slots=True)
class NewTensor:
    """A tensor of a file to be written."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """In bytes."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


def render_header(
    tensors: Iterable[NewTensor], metadata: Mapping[str, str] | None = None
) -> tuple[bytes, dict[str, int]]:
    """Render the header of a file with these tensors; return it and each tensor's offset.

    The order is the safetensors library's: widest elements first, then by name. The header is
    padded with spaces to a multiple of 8 bytes.
    """
    ordered = sorted(tensors, key=lambda t: (-ITEM_BYTES[t.dtype], t.name))
    members: dict[str, Any] = {}
    position = 0
    for t in ordered:
        span = [position, position + t.size]
        members[t.name] = {"dtype": t.dtype, "shape": list(t.shape), "data_offsets": span}
        position = span[1]
    described = {"__metadata__": dict(metadata), **members} if metadata else members
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    prefix = _LENGTH.pack(len(text)) + text
    return prefix, {name: len(prefix) + m["data_offsets"][0] for name, m in members.items()}
