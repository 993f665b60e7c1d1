"""Limits of the distance from the reference, by the type that weights are stored in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from llmjp_runtime.executor.torch.config import CheckpointConfig


class Precision(StrEnum):
    """Rounding that the reference's numbers went through."""

    SAME = "same"
    """They are stored as they were."""
    ROUNDED = "rounded"
    """They were cast to a 16-bit type."""
    FP8 = "fp8"
    """Linear layers or the KV cache are in FP8."""

    @classmethod
    def of(cls, config: CheckpointConfig, reference_dtypes: Collection[str]) -> Precision:
        """Return that of a checkpoint, by the dtypes that its reference is stored in."""
        if config.fp8_linears or config.fp8_kv_cache:
            return cls.FP8
        same = config.dtype == "float32" or set(reference_dtypes) == {config.dtype}
        return cls.SAME if same else cls.ROUNDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Largest values that pass."""

    mean_kl: float
    """KL(reference || checkpoint), mean over positions, in nats."""
    logit_error: float
    """Mean absolute error of logits over their standard deviation."""
    perplexity: float
    """|ln(checkpoint's / reference's)|."""
    part_error: float
    """Error of any part of the model, see `PartAgreement.error`."""
    part_gain: float
    """|gain - 1| of any part."""
    range_low: float = 1 / 32
    """Smallest share of its FP8 range that an input may fill, see `FilledRange`."""
    range_high: float = 4.0
    """Largest share; what is beyond 1 was clamped."""


LIMITS = {
    Precision.SAME: Limits(
        mean_kl=1e-5, logit_error=1e-3, perplexity=1e-3, part_error=1e-4, part_gain=1e-4
    ),
    Precision.ROUNDED: Limits(
        mean_kl=1e-3, logit_error=0.03, perplexity=0.01, part_error=0.015, part_gain=0.005
    ),
    Precision.FP8: Limits(
        mean_kl=0.1, logit_error=0.2, perplexity=0.1, part_error=0.15, part_gain=0.05
    ),
}
"""Default limits.

Both sides compute in float32, so `same` leaves the order of sums: 4e-7 in any part, 2e-6 of the
logits' spread were the most seen (12 checkpoints, tp 1 to 4, and the example model); the limits
leave room for sums a hundred times as long. `rounded`: a cast to bf16 is off by 2**-9 at most,
which gave 3e-3 in a part, 2e-3 in logits.

`fp8`: e4m3 has 4 significant bits, so weights and inputs are off by 2.6% rms each and a product by
3.7%; an MLP, two of them in a row behind a product of two, by 6.5%. Seen: 2.5% to 10% in a part and
a gain off by 0.016 at most, over random models and the example model, whose logits were off by 6%
(mean KL 0.02, perplexity 3%). Where tensors are exchanged, a part's error is near 1; a weight
scale that is 10% off shows as a gain of 1.1. What FP8 does to a part is much the same in all
models; what that does to logits grows with depth, and most in models that were never trained.

Ranges have wide limits, since what a few prompts fill depends on what calibration saw: 0.8 to 2.8
where those were other texts, 7 where it was a single sentence (and perplexity was off by 15%).
Within the limits a wrong activation scale does no harm: e4m3 is a floating point type.
"""
