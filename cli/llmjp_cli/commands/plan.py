"""`llmjp plan`. Nothing heavy at import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmjp_cli.commands.build import Dtype, DtypeOption, EmbeddingShardingDim
from llmjp_cli.fp8_options import (
    KvCache,
    KvCacheOption,
    PadIntermediate,
    Quantization,
    QuantizationOption,
)

if TYPE_CHECKING:
    from llmjp_builder.planning.models import PlannedModel


def plan(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SRC]",
            help="Folder of a Hugging Face checkpoint; its config.json alone will do.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="Instead of SRC: 150m, 440m, 980m, 1.8b, 3.7b, 7.2b, 13b or 172b."),
    ] = None,
    gpu: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            show_default="all that are known",
            help="H100, H200, A100-80GB, L40S, ..., or a label nvidia.com/gpu.product; repeatable.",
        ),
    ] = None,
    tp: Annotated[
        int | None,
        typer.Option(
            "--tp",
            min=1,
            show_default="all that work",
            help="Ranks that share every layer (tensor parallel).",
        ),
    ] = None,
    pp: Annotated[
        int | None,
        typer.Option(
            "--pp",
            min=1,
            show_default="all that work; 1 beside --tp",
            help="Stages that divide the layers (pipeline parallel).",
        ),
    ] = None,
    quantization: QuantizationOption = Quantization.NONE,
    kv_cache: KvCacheOption = KvCache.AUTO,
    dtype: DtypeOption = Dtype.AUTO,
    embedding_sharding_dim: EmbeddingShardingDim = None,
    pad_intermediate: PadIntermediate = 0,
    max_seq_len: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="the model's positions",
            help="Prompt and reply together, in tokens.",
        ),
    ] = None,
    max_batch_size: Annotated[
        int, typer.Option(min=1, help="Requests that are worked on at once.")
    ] = 64,
    concurrency: Annotated[
        int,
        typer.Option(
            min=1,
            help="Sequences of full length that a layout must hold at once to be recommended.",
        ),
    ] = 8,
    gpus_per_node: Annotated[int, typer.Option(min=1, help="A model is served from one node.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, in bytes, as JSON.")] = False,
) -> None:
    """Say what a model needs, where it fits, and what is refused and why. Reads no weights.

    The plan is printed, and exit code 6 says that the layout or every GPU is refused, 4 that the
    weights and one sequence of full length fit on none.

    Example: llmjp plan --size 172b --quantization fp8 --gpu H100
    """
    from llmjp_builder.planning.capacity import plan_capacity
    from llmjp_builder.planning.gpus import GPU_TYPES, find_gpu_type
    from llmjp_builder.planning.request import PlanRequest

    request = PlanRequest(
        gpus=tuple(dict.fromkeys(find_gpu_type(name) for name in gpu)) if gpu else GPU_TYPES,
        tensor_parallel=tp,
        pipeline_parallel=pp,
        dtype=dtype.value,
        quantization=quantization.value,
        kv_cache=kv_cache.value,
        embedding_sharding_dim=embedding_sharding_dim,
        pad_intermediate=pad_intermediate,
        max_seq_len=max_seq_len,
        max_batch_size=max_batch_size,
        concurrency=concurrency,
        gpus_per_node=gpus_per_node,
    )
    result = plan_capacity(_model(source, size), request)
    if as_json:
        typer.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
    else:
        from llmjp_cli.tables.plan_table import show

        show(result, request, source)
    result.require_possible()


def _model(source: Path | None, size: str | None) -> PlannedModel:
    from llmjp_builder.planning.models import find_model_by_size
    from llmjp_builder.planning.source import read_model

    if source is not None and size is None:
        return read_model(source)
    if size is not None and source is None:
        return find_model_by_size(size)
    raise typer.BadParameter("give either SRC, the folder of a checkpoint, or --size")
