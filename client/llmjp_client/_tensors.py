"""Values to and from the raw bytes of KServe v2 tensors: little-endian, BYTES length-prefixed.

https://github.com/kserve/open-inference-protocol, "Tensor Data". Pure; used by both ends.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Datatype: TypeAlias = Literal["BOOL", "INT32", "UINT64", "FP32", "BYTES"]
Value: TypeAlias = bool | int | float | str

_FORMATS: Final[dict[str, str]] = {"BOOL": "?", "INT32": "i", "UINT64": "Q", "FP32": "f"}
_LENGTH: Final = struct.Struct("<I")


def pack(datatype: Datatype, values: Sequence[Value]) -> bytes:
    """Return the raw contents of a tensor; text as UTF-8.

    Raises:
        ValueError: a value does not fit `datatype` (or is text with a lone surrogate).
    """
    try:
        if datatype == "BYTES":
            texts = [str(value).encode() for value in values]
            return b"".join(_LENGTH.pack(len(text)) + text for text in texts)
        return struct.pack(f"<{len(values)}{_FORMATS[datatype]}", *values)
    except (struct.error, OverflowError) as error:
        raise ValueError(f"does not fit {datatype}") from error


def unpack(datatype: str, raw: bytes) -> list[Value]:
    """Return the values of a tensor, flat.

    Raises:
        ValueError: `raw` is not a whole number of elements, not UTF-8, or `datatype` is unknown.
    """
    if datatype == "BYTES":
        return [text.decode() for text in _split_elements(raw)]
    if datatype not in _FORMATS:
        raise ValueError(f"unexpected datatype {datatype!r}")
    element = struct.Struct("<" + _FORMATS[datatype])
    if len(raw) % element.size:
        raise ValueError(f"{len(raw)} bytes are not a whole number of {datatype} elements")
    return [value for (value,) in element.iter_unpack(raw)]


def _split_elements(raw: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(raw):
        body = start + _LENGTH.size
        if body > len(raw):
            raise ValueError("a BYTES element ends within its length")
        (length,) = _LENGTH.unpack_from(raw, start)
        if body + length > len(raw):
            raise ValueError(f"a BYTES element claims {length} bytes, {len(raw) - body} are left")
        yield raw[body : body + length]
        start = body + length
