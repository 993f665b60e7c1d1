"""Source of FP8's activation scales: a file with amax, or calibration on texts.

Every command that can quantise decides here and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import InvalidSpec
from llmjp_builder.convert.amax import read_amax
from llmjp_builder.convert.planner import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from llmjp_builder.contracts.spec import Progress
    from llmjp_builder.convert.amax import Amax
    from llmjp_builder.convert.conversion import Conversion


def read_given_amax(
    conversion: Conversion, *, file: Path | None, texts: Path | None
) -> Amax | None:
    """Read the amax in `file`; None without a file: it is not needed, or calibration finds it.

    Args:
        conversion: planned, not yet written.
        file: JSON with amax; skips calibration.
        texts: to calibrate on; only whether that makes sense is checked.

    Raises:
        InvalidSpec: both are given, or one without FP8.
        BadConfig: the file does not fit the model.
    """
    if conversion.layout.quantization == "none":
        if file is not None or texts is not None:
            raise InvalidSpec("activation amax and calibration texts are for quantization fp8 only")
        return None
    if file is not None and texts is not None:
        raise InvalidSpec("give activation amax or calibration texts, not both")
    if file is None:
        return None
    config = conversion.checkpoint.config
    family = FAMILIES[config.architecture]
    return read_amax(
        file, family.list_linear_modules(config), family.list_attention_modules(config)
    )


def find_or_calibrate_amax(
    conversion: Conversion,
    given: Amax | None,
    *,
    texts: Path | None,
    store: Path,
    source_sha256: Mapping[str, str] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Amax | None:
    """Return the given amax, or find it by calibration; None without FP8.

    Args:
        conversion: planned, not yet written.
        given: the result of `read_given_amax`.
        texts: to calibrate on; None takes the built-in ones.
        store: where calibrations are kept and resumed.
        source_sha256: of the source's files, if they were hashed already.
        on_progress: as in `pipeline.build`.

    Raises:
        BuilderError: as `quantize.calibration` says.
    """
    if conversion.layout.quantization == "none" or given is not None:
        return given
    from llmjp_builder.quantize.calibration import calibrate

    found = calibrate(
        conversion.checkpoint.folder,
        texts=texts,
        store=store,
        dtype=conversion.layout.dtype,
        source_sha256=source_sha256,
        on_progress=on_progress,
    )
    return found.amax
