"""`llmjp plan`. Nothing heavy is imported before it runs."""

from __future__ import annotations

import json
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmjp_builder.planning.models import SIZES
from llmjp_builder.planning.request import PlanRequest
from llmjp_cli.option_groups import OptionGroup, expand_groups
from llmjp_cli.options import LAYOUT

if TYPE_CHECKING:
    from llmjp_builder.contracts.spec import Backend
    from llmjp_builder.planning.models import PlannedModel


def _vary(row: Any, **changes: Any) -> Any:
    """Return a row of another group with some attributes changed."""
    varied = copy(row)
    for name, value in changes.items():
        setattr(varied, name, value)
    return varied


PLAN = OptionGroup(
    {
        **LAYOUT.rows,
        "backend": typer.Option(
            show_default="whichever can",
            help="What will serve the model; what it would refuse is refused here.",
        ),
        "tensor_parallel": _vary(LAYOUT.rows["tensor_parallel"], show_default="all that work"),
        "pipeline_parallel": _vary(
            LAYOUT.rows["pipeline_parallel"], show_default="all that work; 1 beside --tp"
        ),
        "max_seq_len": typer.Option(
            min=1,
            show_default="the model's positions",
            help="Prompt and reply together, in tokens.",
        ),
        "max_batch_size": typer.Option(min=1, help="Maximum requests per batch."),
        "concurrency": typer.Option(
            min=1,
            help="Sequences of full length that a layout must hold at once to be recommended.",
        ),
        "gpus_per_node": typer.Option(
            min=1, help="GPUs of one node, which serves the whole model."
        ),
    }
)


OptionalSource = Annotated[
    Path | None,
    typer.Argument(
        metavar="[SRC]",
        help="Folder of a Hugging Face checkpoint; its config.json is enough.",
    ),
]
Size = Annotated[
    str | None,
    typer.Option(help=f"Instead of SRC: {', '.join(SIZES)}."),
]
Gpus = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        show_default="all known ones",
        help="H100, H200, A100-80GB, L40S, ..., or a label nvidia.com/gpu.product; repeatable.",
    ),
]


@expand_groups
def plan_deployment(
    source: OptionalSource = None,
    size: Size = None,
    gpu: Gpus = None,
    *,
    request: Annotated[PlanRequest, PLAN],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything, in bytes, as JSON.")
    ] = (False),
) -> None:
    """Say what a model needs, where it fits, and what is refused and why. Reads no weights.

    The plan is printed in any case. Exit code 6 says that the layout or every GPU is refused, 4
    that the weights and one sequence of full length fit on none.

    Example: llmjp plan --size 172b --quantization fp8 --gpu H100
    """
    from llmjp_builder.planning.capacity import plan_capacity
    from llmjp_builder.planning.gpus import find_gpu_type

    if gpu:
        request = replace(request, gpus=tuple(dict.fromkeys(find_gpu_type(name) for name in gpu)))
    result = plan_capacity(_read_model(source, size, request.backend), request)
    if as_json:
        typer.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
    else:
        from llmjp_cli.tables.plan_table import print_plan

        print_plan(result, request, source)
    result.require_possible()


def _read_model(source: Path | None, size: str | None, backend: Backend | None) -> PlannedModel:
    from llmjp_builder.planning.models import find_model_by_size
    from llmjp_builder.planning.source import read_model

    if source is not None and size is None:
        return read_model(source, backend)
    if size is not None and source is None:
        return find_model_by_size(size)
    raise typer.BadParameter("give either SRC, the folder of a checkpoint, or --size")
