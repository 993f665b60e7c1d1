"""Where FP8's activation scales come from: a file with amax, or calibration on texts.

This is the one place that decides; every command that can quantise asks here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_builder.convert.plan import FAMILIES
from llmjp_builder.errors import InvalidSpec, Unsupported
from llmjp_builder.quantize.amax import read_amax

if TYPE_CHECKING:
    from pathlib import Path

    from llmjp_builder.conversion import Conversion
    from llmjp_builder.quantize.amax import Amax


def activation_amax(
    conversion: Conversion, *, file: Path | None, texts: Path | None
) -> Amax | None:
    """What the conversion's scales are made of; None if it has none.

    Args:
        conversion: planned, not yet written.
        file: JSON with amax; skips calibration.
        texts: to calibrate on.

    Raises:
        InvalidSpec: both are given, or one without FP8.
        BadConfig: the file does not fit the model.
        Unsupported: calibration is needed.
    """
    if conversion.layout.quantization == "none":
        if file is not None or texts is not None:
            raise InvalidSpec("activation amax and calibration texts are for quantization fp8 only")
        return None
    if file is not None and texts is not None:
        raise InvalidSpec("give activation amax or calibration texts, not both")
    if file is None:
        raise Unsupported(
            "FP8 needs the largest activations, and calibrating on texts is not possible yet: "
            "give them as JSON with --activation-amax"
        )
    config = conversion.checkpoint.config
    family = FAMILIES[config.architecture]
    return read_amax(file, family.linear_modules(config), family.attention_modules(config))
