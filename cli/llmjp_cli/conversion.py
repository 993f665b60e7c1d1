"""Writing a planned conversion, for `convert` and `quantize`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_cli.progress import open_reporter
from llmjp_cli.user_cache import locate_user_cache

if TYPE_CHECKING:
    from pathlib import Path

    from llmjp_builder.convert.conversion import Conversion
    from llmjp_cli.options import CalibrationOptions


def write_conversion(conversion: Conversion, out: Path, options: CalibrationOptions) -> None:
    """Write a conversion to `out`, which appears whole or not at all, and show the progress.

    A calibration that it needs is kept in this user's cache.
    """
    from llmjp_builder.convert.conversion import convert_checkpoint
    from llmjp_builder.progress import Reporter
    from llmjp_builder.quantize.activations import find_or_calibrate_amax, read_given_amax

    file, texts = options.activation_amax, options.calibration
    with open_reporter() as report:
        amax = find_or_calibrate_amax(
            conversion,
            read_given_amax(conversion, file=file, texts=texts),
            texts=texts,
            store=locate_user_cache(),
            on_progress=report,
        )
        convert_checkpoint(conversion, out, Reporter(report), amax)
