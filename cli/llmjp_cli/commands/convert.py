"""`llmjp convert`. Nothing heavy is imported before it runs."""

from __future__ import annotations

import typer

from llmjp_cli.option_groups import expand_groups
from llmjp_cli.options import Calibration, Layout, OutputFolder, SourceFolder


@expand_groups
def convert_checkpoint(
    source: SourceFolder, out: OutputFolder, layout: Layout, calibration: Calibration
) -> None:
    """Convert a Hugging Face checkpoint to a TensorRT-LLM checkpoint.

    OUT gets config.json and one rankN.safetensors per rank, and appears whole or not at all. The
    last line on stdout is OUT.

    Example: llmjp convert llm-jp-3-1.8b-instruct ckpt-tp2 --tp 2

    Example: llmjp convert SRC OUT --quantization fp8 --kv-cache fp8
    """
    from llmjp_builder.convert.conversion import prepare_ranks
    from llmjp_cli.conversion import write_conversion

    conversion = prepare_ranks(source, layout)
    write_conversion(conversion, out, calibration)
    for stored, count in conversion.plan.casts.items():
        typer.echo(f"{count} tensors: {stored} to {conversion.layout.dtype}", err=True)
    for name in conversion.plan.ignored:
        typer.echo(f"left out: {name}", err=True)
    typer.echo(str(out))
