"""Options about FP8 that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmjp_cli.commands.resolve import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmjp_builder.contracts.spec import Progress
    from llmjp_builder.convert.amax import Amax
    from llmjp_builder.convert.conversion import Conversion


class Quantization(StrEnum):
    """What the decoder's linear layers are stored as."""

    NONE = "none"
    FP8 = "fp8"


class KvCache(StrEnum):
    """What keys and values are stored as."""

    AUTO = "auto"
    FP8 = "fp8"


QuantizationOption = Annotated[
    Quantization,
    typer.Option(help="fp8: the decoder's linear layers in FP8, with one scale per tensor."),
]
KvCacheOption = Annotated[
    KvCache, typer.Option(help="fp8: keys and values in FP8; auto: in the element type.")
]
ActivationAmax = Annotated[
    Path | None,
    typer.Option(
        show_default="calibrate",
        help="JSON file with the largest activations by module; calibration is skipped.",
    ),
]
Calibration = Annotated[
    Path | None,
    typer.Option(
        show_default="built-in Japanese texts",
        help="UTF-8 text file to calibrate FP8's scales on: passages, divided by lines of %% or, "
        "where there are none, by blank lines.",
    ),
]
PadIntermediate = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="MULTIPLE",
        help="Fill up the MLP's width of each rank with zeros to a multiple of this, such as 16 "
        "for FP8. 0 refuses widths that FP8 GEMMs may not take; 1 takes any.",
    ),
]


def find_amax(
    conversion: Conversion,
    file: Path | None,
    texts: Path | None,
    on_progress: Callable[[Progress], None],
) -> Amax | None:
    """The options' amax for a conversion without a store: calibrations go to the user's cache."""
    from llmjp_builder.quantize.activations import activation_amax, given_amax

    given = given_amax(conversion, file=file, texts=texts)
    return activation_amax(
        conversion, given, texts=texts, store=cache_folder(), on_progress=on_progress
    )
