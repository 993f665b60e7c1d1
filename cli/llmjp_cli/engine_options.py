"""Options of `llmjp build` that only backend tensorrt reads."""

from __future__ import annotations

import json
from typing import Annotated

import typer

MaxBatchSize = Annotated[
    int | None,
    typer.Option(min=1, show_default="128", help="tensorrt: requests that run together."),
]
MaxInputLen = Annotated[
    int | None,
    typer.Option(min=1, show_default="the compiler's", help="tensorrt: tokens of a prompt."),
]
MaxSeqLen = Annotated[
    int | None,
    typer.Option(
        min=1, show_default="the model's context", help="tensorrt: tokens of prompt and reply."
    ),
]
EngineOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="NAME=VALUE",
        help="tensorrt: a further option of trtllm-build; may be repeated.",
    ),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        "--compile-limit",
        min=1,
        metavar="SECONDS",
        show_default="none",
        help="tensorrt: how long trtllm-build may take.",
    ),
]


def parse_engine_options(given: list[str] | None) -> dict[str, str | int | float | bool]:
    """`NAME=VALUE` by name; whole numbers, true and false are what they look like, others text.

    Raises:
        typer.BadParameter: no `=`, or a name twice.
    """
    options: dict[str, str | int | float | bool] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"--option {text}: expected NAME=VALUE")
        if name in options:
            raise typer.BadParameter(f"--option {name}: given twice")
        options[name] = _scalar(value)
    return options


def _scalar(text: str) -> str | int | float | bool:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float | bool) else text
