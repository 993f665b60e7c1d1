"""FP8 (e4m3) with one scale per tensor: what is stored, and the arithmetic on it.

The design's rule, which is TensorRT-LLM's FP8 per tensor: an input is divided by its scale, clamped
to +-448 and cast; products are summed in float32 and multiplied by both scales. e4m3 values are
exact in every wider type, so a float32 product of widened operands is that sum, on any device.
`torch._scaled_mm` would be faster on GPUs from Ada on; it is not used, since Hopper's
FP8 units keep fewer bits of the sum than float32 has (DeepSeek-V3 Technical Report, 3.3.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F  # noqa: N812

E4M3 = torch.float8_e4m3fn
LARGEST = 448.0
"""The largest number of e4m3; torch casts what is beyond it to NaN or to it, so we clamp first."""


def quantize(x: torch.Tensor, scale: float) -> torch.Tensor:
    """Return e4m3 of x / scale, in the shape of x; NaN stays NaN."""
    return (x.float() / scale).clamp_(-LARGEST, LARGEST).to(E4M3)


def dequantize(x: torch.Tensor, scale: float, dtype: torch.dtype) -> torch.Tensor:
    """Return a new tensor: `x` (e4m3) times scale."""
    wide = x.to(torch.float32)
    return (wide if scale == 1 else wide.mul_(scale)).to(dtype)


def choose_storage_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype that FP8 weights are kept in: float32 on a CPU.

    Widening costs far more there than reading what is wider (0.2 against 2 billion weights a second
    and core, torch 2.13).
    """
    return torch.float32 if device.type == "cpu" else E4M3


@dataclass(frozen=True, slots=True)
class LinearScales:
    """The scales of one linear layer; the same on all ranks."""

    weight: float
    input: float


@dataclass(frozen=True, slots=True, eq=False)
class Fp8Linear:
    """A linear layer in FP8, from x [T, in] to [T, out] in the dtype of x."""

    weight: torch.Tensor
    """[out, in]: e4m3 values, perhaps in a wider type; the scale is not in them."""
    scales: LinearScales

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Quantise and multiply."""
        narrow = quantize(x, self.scales.input).float()
        y = F.linear(narrow, self.weight.float())
        return y.mul_(self.scales.input * self.scales.weight).to(x.dtype)
