"""The dataclasses of `api` as data: their fields, and what the annotations say. Pure."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Annotated, Any, TypeVar

M = TypeVar("M")

_CAPITALS = {"pid": "PID", "ipc": "IPC"}


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """An annotation, taken apart."""

    kind: Any
    """The type, without its markers and without `| None`."""
    markers: tuple[Any, ...]
    nullable: bool
    """Whether None is a value of it: the field is left out then."""

    def marker(self, kind: type[M]) -> M | None:
        """The marker of that kind, if it has one."""
        return next((marker for marker in self.markers if isinstance(marker, kind)), None)


@dataclasses.dataclass(frozen=True, slots=True)
class Property:
    """A field of a dataclass, as JSON has it."""

    attribute: str
    name: str
    """In JSON: maxSeqLen for max_seq_len."""
    form: Form
    required: bool
    default: Any
    """None where it is required."""


def form_of(annotation: Any) -> Form:
    """The annotation, taken apart."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        inner = form_of(arguments[0])
        return Form(inner.kind, (*inner.markers, *arguments[1:]), inner.nullable)
    if origin in {types.UnionType, typing.Union} and types.NoneType in arguments:
        rest = [kind for kind in arguments if kind is not types.NoneType]
        inner = form_of(rest[0] if len(rest) == 1 else typing.Union[tuple(rest)])  # noqa: UP007
        return Form(inner.kind, inner.markers, nullable=True)
    return Form(annotation, (), nullable=False)


@functools.cache
def properties(cls: type) -> tuple[Property, ...]:
    """The fields of a dataclass, in order."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return tuple(_property(field, hints[field.name]) for field in dataclasses.fields(cls))


def _property(field: dataclasses.Field[Any], annotation: Any) -> Property:
    name, form = camel(field.name), form_of(annotation)
    if field.default is not dataclasses.MISSING:
        return Property(field.name, name, form, required=False, default=field.default)
    if field.default_factory is not dataclasses.MISSING:
        return Property(field.name, name, form, required=False, default=field.default_factory())
    return Property(field.name, name, form, required=True, default=None)


def camel(attribute: str) -> str:
    """An attribute's name in JSON: capitals as the Kubernetes API has them."""
    first, *rest = attribute.split("_")
    return first + "".join(_CAPITALS.get(word, word.capitalize()) for word in rest)


def empty(value: object) -> bool:
    """Whether a value says nothing, so that it is neither a default nor written out."""
    return value is None or value == "" or (isinstance(value, dict | list) and not value)
