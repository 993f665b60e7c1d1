"""The command `quantize`: a Hugging Face checkpoint in FP8. Nothing heavy is imported before."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from llmjp_cli.commands.build import Dtype, DtypeOption
from llmjp_cli.fp8_options import (
    ActivationAmax,
    Calibration,
    KvCache,
    KvCacheOption,
    find_amax,
)


class Format(StrEnum):
    """Forms of a quantised checkpoint."""

    UNIFIED = "unified"


def quantize(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="Folder of a Hugging Face checkpoint.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make; must not exist.")],
    format: Annotated[  # noqa: A002 - the option's name
        Format,
        typer.Option(help="unified: Hugging Face's files and names, with scales beside weights."),
    ] = Format.UNIFIED,
    kv_cache: KvCacheOption = KvCache.AUTO,
    activation_amax: ActivationAmax = None,
    calibration: Calibration = None,
    dtype: DtypeOption = Dtype.AUTO,
) -> None:
    """Quantise a Hugging Face checkpoint to FP8 for vLLM and TensorRT-LLM's LLM API.

    OUT has the source's files: the same shards, the tokenizer, config.json and
    hf_quant_config.json; it appears whole or not at all. The last line on stdout is OUT. For a
    TensorRT-LLM checkpoint see llmjp convert --quantization fp8.

    Example: llmjp quantize llm-jp-3-13b-instruct 13b-fp8 --kv-cache fp8
    """
    from llmjp_builder.contracts.spec import LayoutOptions
    from llmjp_builder.convert.conversion import convert as write
    from llmjp_builder.progress import Reporter
    from llmjp_builder.quantize.unified import prepare_unified
    from llmjp_cli.progress import reporter

    assert format is Format.UNIFIED, "there is no other"
    conversion = prepare_unified(
        source, LayoutOptions(dtype=dtype.value, quantization="fp8", kv_cache=kv_cache.value)
    )
    with reporter() as show:
        amax = find_amax(conversion, activation_amax, calibration, show)
        write(conversion, out, Reporter(show), amax)
    typer.echo(str(out))
