"""The command line as an interface: every option of every command, and groups of options."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from llmjp_cli.__main__ import app
from llmjp_cli.option_groups import OptionGroup, expand_groups, find_given_flags

GOLDEN = Path(__file__).with_name("options.txt")
CHECKOUT = Path(__file__).parents[2]


def describe(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """A line per parameter: command, flags, type, default, whether it repeats, the rest."""
    for name, subcommand in getattr(command, "commands", {}).items():
        yield from describe(subcommand, (*path, name))
    if hasattr(command, "commands"):
        return
    for param in command.params:
        is_option = param.opts[0].startswith("-")
        flags = ",".join(param.opts + param.secondary_opts) if is_option else param.metavar
        limits = {
            "env": param.envvar,
            "min": param.min,
            "max": param.max,
            "metavar": param.metavar if is_option else None,
        }
        yield "\t".join(
            (
                " ".join(path),
                flags or param.name,
                describe_type(param.type_descriptor.annotation),
                "required" if param.required else describe_default(param.default),
                "multiple" if param.multiple or param.nargs != 1 else "",
                " ".join(f"{name}={value}" for name, value in limits.items() if value is not None),
            )
        )


def describe_type(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return "|".join(str(member.value) for member in annotation)
    return getattr(annotation, "__name__", str(annotation))


def describe_default(default: Any) -> str:
    if isinstance(default, Path):
        return str(default.relative_to(CHECKOUT) if default.is_absolute() else default)
    if isinstance(default, float) and default.is_integer():
        return str(int(default))
    return str(getattr(default, "value", default))


def test_names_defaults_and_ranges_stay() -> None:
    """A changed line is a changed interface: the changelog says so."""
    found = sorted(describe(typer.main.get_command(app)))
    assert "\n".join(found) == GOLDEN.read_text("utf-8").rstrip("\n")


def test_every_option_has_help() -> None:
    commands = typer.main.get_command(app)

    def walk(command: Any) -> Iterator[Any]:
        for subcommand in getattr(command, "commands", {}).values():
            yield from walk(subcommand)
        yield from command.params if not hasattr(command, "commands") else ()

    assert [param.name for param in walk(commands) if not param.help] == []


@dataclass(frozen=True, kw_only=True)
class Shape:
    sides: int
    colour: Literal["red", "blue"] = "blue"
    secret: str = "kept"


SHAPE = OptionGroup(
    {
        "sides": typer.Option("--sides", min=3, help="How many."),
        "colour": typer.Option(help="Which."),
    }
)


@pytest.fixture
def drawn() -> list[Any]:
    return []


@pytest.fixture
def draw(drawn: list[Any]) -> typer.Typer:
    def command(
        context: typer.Context,
        shape: Annotated[Shape, SHAPE],
        pen: Annotated[str, typer.Argument(metavar="[PEN]", help="With what.")] = "pencil",
        times: Annotated[int, typer.Option(help="How often.")] = 1,
    ) -> None:
        """Draw."""
        names = ["sides", "colour", "times", "pen"]
        drawn.append((shape, times, find_given_flags(context, names)))

    typed = typer.Typer()
    typed.command()(expand_groups(command))
    return typed


def test_a_group_becomes_one_value(draw: typer.Typer, drawn: list[Any]) -> None:
    result = CliRunner().invoke(draw, ["--sides", "4", "--colour", "red", "--times", "2"])
    assert result.exit_code == 0, result.output
    shape, times, given = drawn[0]
    assert (shape, times) == (Shape(sides=4, colour="red"), 2)
    assert type(shape.colour) is str
    assert given == ["--sides", "--colour", "--times"]


def test_what_is_given_is_named_as_it_is_typed(draw: typer.Typer, drawn: list[Any]) -> None:
    assert CliRunner().invoke(draw, ["ink", "--sides", "3"]).exit_code == 0
    assert drawn[0][2] == ["--sides", "PEN"]


def test_what_is_not_given_is_the_fields_default(draw: typer.Typer, drawn: list[Any]) -> None:
    assert CliRunner().invoke(draw, ["--sides", "3"]).exit_code == 0
    assert drawn == [(Shape(sides=3), 1, ["--sides"])]


@pytest.mark.parametrize(
    "arguments", [[], ["--sides", "2"], ["--sides", "3", "--colour", "green"], ["--secret", "x"]]
)
def test_types_and_ranges_are_checked(
    draw: typer.Typer, drawn: list[Any], arguments: list[str]
) -> None:
    assert CliRunner().invoke(draw, arguments).exit_code == 2
    assert drawn == []


def test_some_rows_of_a_group() -> None:
    assert list(SHAPE.select("colour").rows) == ["colour"]
