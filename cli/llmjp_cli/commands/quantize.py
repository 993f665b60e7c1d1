"""`llmjp quantize`. Nothing heavy is imported before it runs."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer

from llmjp_cli.option_groups import expand_groups
from llmjp_cli.options import Calibration, OutputFolder, SourceFolder, UnifiedLayout


class CheckpointFormat(StrEnum):
    """Formats of a quantized checkpoint."""

    UNIFIED = "unified"


@expand_groups
def quantize_checkpoint(
    source: SourceFolder,
    out: OutputFolder,
    format: Annotated[  # noqa: A002  the option's name
        CheckpointFormat,
        typer.Option(help="unified: Hugging Face's files and names, with scales beside weights."),
    ] = CheckpointFormat.UNIFIED,
    *,
    layout: UnifiedLayout,
    calibration: Calibration,
) -> None:
    """Quantize a Hugging Face checkpoint to FP8 for vLLM and TensorRT-LLM's LLM API.

    OUT gets the source's files: the same shards, the tokenizer, config.json and
    hf_quant_config.json; it appears whole or not at all. The last line on stdout is OUT. For a
    TensorRT-LLM checkpoint see llmjp convert --quantization fp8.

    Example: llmjp quantize llm-jp-3-13b-instruct 13b-fp8 --kv-cache fp8
    """
    from llmjp_builder.quantize.unified import prepare_unified
    from llmjp_cli.conversion import write_conversion

    assert format is CheckpointFormat.UNIFIED, "there is no other"
    conversion = prepare_unified(source, replace(layout, quantization="fp8"))
    write_conversion(conversion, out, calibration)
    typer.echo(str(out))
