"""Numbers that are none, found by the bits of floats while they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

_EXPONENT: Final[Mapping[str, tuple[type[np.uint16 | np.uint32], int]]] = {
    "BF16": (np.uint16, 0x7F80),
    "F16": (np.uint16, 0x7C00),
    "F32": (np.uint32, 0x7F800000),
}
"""The bits of the exponent; all are set in infinity and NaN, and in no number."""
_TAKEN_AT_ONCE = 1 << 16
"""Elements: what is masked stays in the processor's cache until its largest is found."""


def find_non_finite(data: npt.NDArray[np.uint8], dtype: str) -> int | None:
    """Return the index of the first infinity or NaN; None where there is none.

    Args:
        data: contiguous bytes of the numbers.
        dtype: their element type; others than BF16, F16 and F32 are not looked at.
    """
    if dtype not in _EXPONENT:
        return None
    unsigned, exponent = _EXPONENT[dtype]
    words = data.reshape(-1).view(unsigned)
    masked = np.empty(min(_TAKEN_AT_ONCE, words.size), unsigned)
    for begin in range(0, words.size, _TAKEN_AT_ONCE):
        part = words[begin : begin + _TAKEN_AT_ONCE]
        found = np.bitwise_and(part, unsigned(exponent), out=masked[: part.size])
        if found.max() == exponent:
            return begin + int(np.argmax(found == exponent))
    return None
