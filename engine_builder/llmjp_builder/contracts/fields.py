"""Fields of dataclasses as JSON has them: names, types, constraints and defaults."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

C = TypeVar("C")


@dataclasses.dataclass(frozen=True, slots=True)
class FieldType:
    """An annotation, taken apart."""

    kind: Any
    """The type, without its constraints and without `| None`."""
    constraints: tuple[Any, ...]
    """See `constraints`."""
    nullable: bool
    """Whether the value may be None, that is, left out."""

    def constraint(self, kind: type[C]) -> C | None:
        """Return the constraint of that kind, if there is one."""
        return next((one for one in self.constraints if isinstance(one, kind)), None)


@dataclasses.dataclass(frozen=True, slots=True)
class JsonField:
    """A field of a dataclass, as JSON has it."""

    attribute: str
    """Name in Python."""
    name: str
    """Name in JSON."""
    type: FieldType
    required: bool
    default: Any
    """None where the field is required."""


def parse_annotation(annotation: Any) -> FieldType:
    """Take an annotation apart."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        inner = parse_annotation(arguments[0])
        return FieldType(inner.kind, (*inner.constraints, *arguments[1:]), inner.nullable)
    if origin in {types.UnionType, typing.Union} and types.NoneType in arguments:
        rest = [kind for kind in arguments if kind is not types.NoneType]
        kind = rest[0] if len(rest) == 1 else typing.Union[tuple(rest)]  # noqa: UP007
        inner = parse_annotation(kind)
        return FieldType(inner.kind, inner.constraints, nullable=True)
    return FieldType(annotation, (), nullable=False)


@functools.cache
def list_fields(cls: type, rename: Callable[[str], str]) -> tuple[JsonField, ...]:
    """Return the fields of a dataclass in order; `rename` makes JSON names of attributes."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return tuple(
        JsonField(
            attribute=field.name,
            name=rename(field.name),
            type=parse_annotation(hints[field.name]),
            required=_is_required(field),
            default=_default(field),
        )
        for field in dataclasses.fields(cls)
    )


def _is_required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    factory = field.default_factory
    return None if factory is dataclasses.MISSING else factory()
