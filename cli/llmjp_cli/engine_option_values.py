"""Options of trtllm-build as `NAME=VALUE` on the command line."""

from __future__ import annotations

import json

import typer


def parse_engine_options(given: list[str] | None) -> dict[str, str | int | float | bool]:
    """Return values by name: numbers, true and false as such, anything else as text.

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
        options[name] = _parse_scalar(value)
    return options


def _parse_scalar(text: str) -> str | int | float | bool:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float | bool) else text
