"""Between the dataclasses of `api` and JSON, strictly: what does not fit its annotation is refused.

What the API server checks by CEL over several fields is not checked again here.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Any, Literal, TypeVar

from llmjp_operator.api.forms import Form, empty, form_of, properties
from llmjp_operator.api.markers import (
    Entries,
    IntegerOrString,
    Items,
    Length,
    Matches,
    OneOf,
    Range,
    Refused,
)
from llmjp_operator.errors import InvalidModel

T = TypeVar("T")

_SHOWN = 60
"""Characters of a wrong value that are repeated to the reader."""


def decode(cls: type[T], value: object, path: str, *, strict: bool = True) -> T:
    """JSON values as the dataclass `cls`.

    Args:
        cls: one of `api`.
        value: what `json.loads` gave.
        path: of the value, for messages.
        strict: refuse unknown fields; otherwise they are left out.

    Raises:
        InvalidModel: names the path, what was expected and what was found.
    """
    return typing.cast("T", _Decoder(strict=strict).read(form_of(cls), value, path))


def encode(value: Any) -> Any:
    """The JSON values of a dataclass or a part of one. Defaults that say nothing are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        members = ((p, getattr(value, p.attribute)) for p in properties(type(value)))
        items = ((p.name, encode(v), not p.required and v == p.default) for p, v in members)
        return {name: item for name, item, default in items if not (default and empty(item))}
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    return value.value if isinstance(value, Enum) else value


@dataclasses.dataclass(frozen=True, slots=True)
class _Decoder:
    strict: bool

    def read(self, form: Form, value: Any, path: str) -> Any:
        if value is None and form.nullable:
            return None
        if form.marker(IntegerOrString) and form.kind is str and type(value) is int:
            value = str(value)
        read = self._plain(form.kind, value, path)
        for marker in form.markers:
            if problem := _problem(marker, read):
                raise InvalidModel(path, f"{problem}, found {_shown(value)}")
        return read

    def _plain(self, kind: Any, value: Any, path: str) -> Any:
        if typing.get_origin(kind) is not None:
            return self._generic(kind, value, path)
        if dataclasses.is_dataclass(kind):
            return self._object(kind, _typed((dict,), value, path), path)
        if kind is Any:
            return value
        if issubclass(kind, StrEnum):
            return kind(_one_of(tuple(member.value for member in kind), value, path))
        return _typed((kind,), value, path)

    def _generic(self, kind: Any, value: Any, path: str) -> Any:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is Literal:
            return _one_of(arguments, value, path)
        if origin is tuple:
            items, form = _typed((list,), value, path), form_of(arguments[0])
            return tuple(self.read(form, item, f"{path}[{i}]") for i, item in enumerate(items))
        if origin is Mapping:
            members, form = _typed((dict,), value, path), form_of(arguments[1])
            return {key: self.read(form, item, f"{path}.{key}") for key, item in members.items()}
        return _typed(arguments, value, path)

    def _object(self, cls: Any, members: dict[str, Any], path: str) -> Any:
        known = {form.name: form for form in properties(cls)}
        if self.strict and (unknown := sorted(members.keys() - known.keys())):
            raise InvalidModel(f"{path}.{unknown[0]}", "unknown field")
        values = {}
        for name, member in known.items():
            if name in members and (refused := member.form.marker(Refused)):
                raise InvalidModel(f"{path}.{name}", refused.reason)
            if name in members:
                values[member.attribute] = self.read(member.form, members[name], f"{path}.{name}")
            elif member.required:
                raise InvalidModel(f"{path}.{name}", "required, but missing")
        try:
            return cls(**values)
        except ValueError as exc:
            raise InvalidModel(path, str(exc)) from exc


def _problem(marker: object, value: Any) -> str | None:
    match marker:
        case Range(least, most) if not least <= value <= most:
            return f"must be from {least} to {most}"
        case Length(least, most) if isinstance(value, str) and not least <= len(value) <= most:
            return f"must have {least} to {most} characters"
        case OneOf(choices) if value not in choices:
            return f"must be one of {', '.join(choices)}"
        case Matches(pattern, sentence) if re.fullmatch(pattern, value) is None:
            return sentence
        case Items(most) | Entries(most) if len(value) > most:
            return f"must have at most {most} entries"
        case _:
            return None


def _one_of(choices: tuple[Any, ...], value: Any, path: str) -> Any:
    if type(value) is not str or value not in choices:
        names = ", ".join(str(choice) for choice in choices)
        raise InvalidModel(path, f"must be one of {names}, found {_shown(value)}")
    return value


def _typed(kinds: tuple[Any, ...], value: Any, path: str) -> Any:
    """`value` if it is of one of these types; an integer is also a float, a bool no integer."""
    if kinds == (float,) and type(value) is int:
        return float(value)
    if type(value) not in kinds:
        spelled = {dict: "object", list: "list", str: "string", int: "integer", bool: "boolean"}
        names = " or ".join(spelled.get(kind, "number") for kind in kinds)
        raise InvalidModel(path, f"must be of type {names}, found {_shown(value)}")
    return value


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
