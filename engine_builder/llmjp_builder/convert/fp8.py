"""FP8 (e4m3) with one scale per tensor, in the arithmetic of NVIDIA's modelopt, bit for bit.

Scales: modelopt/torch/export/quant_utils.py, `get_scaling_factor` and `to_quantized_weight`; for
unified checkpoints also unified_export_hf.py, `_export_quantized_weight`.

Weights come in as the bit patterns of a 16-bit type, so there are only 65,536 different values:
each is divided and rounded once, by torch itself, and the weights are then looked up. That is the
same as casting them one by one, and faster.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

STORED_AS = "F8_E4M3"
"""safetensors' name of the element type."""

MAXIMUM = 448.0
"""The largest number of e4m3."""

_MAGNITUDE = 0x7FFF
_INFINITY = {"BF16": 0x7F80, "F16": 0x7C00}
_TAKEN_AT_ONCE = 1 << 18
"""Elements; `numpy.take` widens this many indices to 8 bytes each."""


class Rounding(Enum):
    """Rounding of the float32 quotient of a weight and its scale to e4m3."""

    DIRECT = auto()
    """Directly, as in TensorRT-LLM checkpoints."""
    STORED_FIRST = auto()
    """To the weight's own type first, as in unified checkpoints: a scale without a dimension does
    not widen the result of torch's division."""


class NotQuantisable(ValueError):
    """FP8 with one scale cannot hold these weights."""


def find_largest_magnitude(words: npt.NDArray[np.uint16]) -> int:
    """Return the largest absolute value among 16-bit floats, as the bits of a 16-bit float.

    Bits order magnitudes, with infinity and NaN above every number.
    """
    return int(np.bitwise_and(words, _MAGNITUDE).max(initial=0))


def compute_weight_scale(magnitude: int, dtype: str) -> np.float32:
    """Return the scale of weights with this largest magnitude, given as bits of `dtype`.

    Raises:
        NotQuantisable: a weight is infinite or NaN, or all are zero or all but zero.
    """
    if magnitude >= _INFINITY[dtype]:
        raise NotQuantisable("holds infinity or NaN")
    if magnitude == 0:
        raise NotQuantisable("holds nothing but zeros, which have no FP8 scale")
    return compute_scale(_decode_magnitude(magnitude, dtype))


def compute_scale(amax: float) -> np.float32:
    """Return the scale that maps amax to the largest number of FP8: amax / 448.

    Raises:
        NotQuantisable: amax is too close to zero, or beyond float32.
    """
    limits = np.finfo(np.float32)
    if not MAXIMUM * float(limits.tiny) < amax <= float(limits.max):
        raise NotQuantisable(f"an amax of {str(amax)[:20]} gives no FP8 scale")
    return np.float32(amax) / np.float32(MAXIMUM)


def build_cast_table(dtype: str, divisor: np.float32, rounding: Rounding) -> npt.NDArray[np.uint8]:
    """Return the e4m3 bits of every 16-bit float over `divisor`, [65536], by the float's bits."""
    import torch

    bits = torch.from_numpy(np.arange(1 << 16, dtype=np.uint16).view(np.uint8))
    values = bits.view(torch.bfloat16 if dtype == "BF16" else torch.float16)
    quotients = values.float() / torch.tensor([divisor], dtype=torch.float32)
    if rounding is Rounding.STORED_FIRST:
        quotients = quotients.to(values.dtype)
    table: npt.NDArray[np.uint8] = quotients.to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    return table


def look_up(words: npt.NDArray[np.uint16], table: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return `table[words]`, contiguous and in the shape of `words`, using little extra memory."""
    flat = words.reshape(-1)
    found = np.empty(flat.shape, np.uint8)
    for begin in range(0, flat.size, _TAKEN_AT_ONCE):
        part = slice(begin, begin + _TAKEN_AT_ONCE)
        np.take(table, flat[part], out=found[part], mode="clip")
    return found.reshape(words.shape)


def _decode_magnitude(magnitude: int, dtype: str) -> float:
    word = np.uint16(magnitude)
    if dtype == "F16":
        return float(word.view(np.float16))
    return float((np.uint32(word) << np.uint32(16)).view(np.float32))
