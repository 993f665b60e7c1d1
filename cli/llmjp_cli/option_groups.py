"""Groups of options: one parameter of a command that stands for several options.

Typer reads one option from each parameter of a function. Here a parameter may be a dataclass, with
one option per field, so that options which belong together travel as one value:

    Layout = Annotated[LayoutOptions, OptionGroup({"tensor_parallel": typer.Option("--tp", ...)})]

    @expand_groups
    def convert_checkpoint(source: Source, layout: Layout) -> None: ...

The option's type and default are those of the dataclass's field; help, flag and range are in the
group's row, which is an argument's where it is a `typer.Argument`. Fields without a row keep their
default.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from dataclasses import dataclass
from enum import StrEnum
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    get_args,
    get_origin,
    get_type_hints,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import typer


@dataclass(frozen=True, slots=True)
class OptionGroup:
    """The options that make up one value: rows of `typer.Option` by field."""

    rows: Mapping[str, Any]

    def select(self, *names: str) -> OptionGroup:
        """Return the group with only some of its rows."""
        return OptionGroup({name: self.rows[name] for name in names})


def expand_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` with a parameter per option instead of one per group."""
    signature = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[type, list[str]]] = {}
    for parameter in signature.parameters.values():
        group = _find_group(parameter.annotation)
        if group is None:
            parameters.append(parameter)
            continue
        cls = get_args(parameter.annotation)[0]
        groups[parameter.name] = (cls, list(group.rows))
        parameters += _build_parameters(cls, group)

    @functools.wraps(command)
    def run(**options: Any) -> None:
        for name, (cls, fields) in groups.items():
            options[name] = cls(**{field: _to_value(options.pop(field)) for field in fields})
        command(**options)

    # Keyword-only, so that a required option may follow one with a default.
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def find_given_flags(context: typer.Context, names: list[str]) -> list[str]:
    """Return the flags of those options, and arguments' names, that were given."""
    params = {param.name: param for param in context.command.params}
    return [_get_flag(params[name]) for name in names if _is_given(context, name)]


def read_default(cls: type, field: str) -> Any:
    """Return the default of a dataclass's field; `inspect.Parameter.empty` where there is none."""
    default = next(each.default for each in dataclasses.fields(cls) if each.name == field)
    return inspect.Parameter.empty if default is dataclasses.MISSING else default


def _find_group(annotation: Any) -> OptionGroup | None:
    if get_origin(annotation) is not Annotated:
        return None
    metadata = get_args(annotation)[1:]
    return next((each for each in metadata if isinstance(each, OptionGroup)), None)


def _build_parameters(cls: type, group: OptionGroup) -> list[inspect.Parameter]:
    types = get_type_hints(cls)
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=read_default(cls, name),
            annotation=Annotated[_to_option_type(name, types[name]), row],
        )
        for name, row in group.rows.items()
    ]


def _to_option_type(name: str, hint: Any) -> Any:
    """Return the type that typer knows: an enumeration for a Literal of strings."""
    if get_origin(hint) is not Literal:
        return hint
    return _LiteralChoice(name, {value: value for value in get_args(hint)})  # type: ignore[call-arg]


class _LiteralChoice(StrEnum):
    """The values of a Literal."""


def _to_value(option: Any) -> Any:
    return option.value if isinstance(option, _LiteralChoice) else option


def _get_flag(param: Any) -> str:
    """Return `--flag` of an option, `SRC` of an argument."""
    flag = str(param.opts[0])
    return flag if flag.startswith("-") else str(param.metavar or flag).strip("[]")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
