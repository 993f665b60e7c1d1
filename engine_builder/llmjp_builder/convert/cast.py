"""Conversion of element types, rounded as torch does: to nearest, ties to even.

torch is imported on first use only, because most conversions keep the element type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class ValueTooLarge(ValueError):
    """A finite value would become infinite."""


def cast_rows(matrix: npt.NDArray[np.uint8], source: str, target: str) -> npt.NDArray[np.uint8]:
    """Convert the numbers to another element type.

    Args:
        matrix: contiguous bytes, [rows, columns * bytes per source element].
        source: BF16, F16 or F32.
        target: BF16 or F16.

    Returns:
        Contiguous bytes, [rows, columns * bytes per target element].

    Raises:
        ValueTooLarge: a finite value lies beyond the target's range.
    """
    import torch

    dtypes = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
    values = torch.from_numpy(matrix).view(dtypes[source])
    result = values.to(dtypes[target])
    overflow = result.isinf()
    if overflow.any() and (overflow & values.isfinite()).any():
        worst = values[values.isfinite()].abs().max().item()
        raise ValueTooLarge(f"the value {worst:.6g} does not fit {target}")
    converted: npt.NDArray[np.uint8] = result.view(torch.uint8).numpy()
    return converted
