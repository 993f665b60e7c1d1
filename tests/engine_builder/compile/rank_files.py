"""Rank files whose headers say something else than the golden ones."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def rewritten(
    source: Path, out: Path, change: Callable[[dict[str, Any]], None], rank: int = 0
) -> None:
    """A rank file with another header; the loader's rules do not look at the data."""
    data = (source / f"rank{rank}.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    (out / f"rank{rank}.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)


def drop(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda header: header.pop(name)


def reshape(name: str, shape: list[int]) -> Callable[[dict[str, Any]], None]:
    return lambda header: header[name].update(shape=shape)
