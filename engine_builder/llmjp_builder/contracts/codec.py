"""Between frozen dataclasses and JSON, strictly: whatever does not fit the annotations is refused.

Only the annotations that the contracts use are known here. Standard library only.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from llmjp_builder.contracts.errors import InvalidSpec


def encode(value: Any) -> Any:
    """`value`, a dataclass or a part of one, as JSON values; fields that are None are left out."""
    if dataclasses.is_dataclass(value):
        items = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {name: encode(item) for name, item in items if item is not None}
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    return value.value if isinstance(value, StrEnum) else value


def decode(kind: Any, value: Any, where: str) -> Any:
    """Parsed JSON as a value of the annotation `kind`.

    Args:
        kind: bool, int, float, str, a StrEnum, a Literal of strings, a dataclass, `tuple[X, ...]`,
            `Mapping[str, X]`, `X | None`, a union of plain types, or Any for what is passed on.
        value: what `json.loads` gave.
        where: the path to the value, for messages.

    Raises:
        InvalidSpec: it does not fit; the message says where, what was expected and what was found.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in {types.UnionType, typing.Union}:
        return _decode_union(args, value, where)
    if origin is Literal:
        return _one_of(args, value, where)
    if origin is tuple or origin is Mapping:
        return _decode_items(origin, args, value, where)
    if dataclasses.is_dataclass(kind):
        return _decode_fields(kind, _typed(dict, value, where), where)
    return value if kind is Any else _decode_plain(kind, value, where)


def _decode_plain(kind: Any, value: Any, where: str) -> Any:
    if issubclass(kind, StrEnum):
        return kind(_one_of(tuple(member.value for member in kind), value, where))
    return _typed(kind, value, where)


def _decode_items(origin: Any, args: tuple[Any, ...], value: Any, where: str) -> Any:
    if origin is tuple:
        items = _typed(list, value, where)
        return tuple(decode(args[0], item, f"{where}[{i}]") for i, item in enumerate(items))
    members = _typed(dict, value, where)
    return {key: decode(args[1], item, f"{where}.{key}") for key, item in members.items()}


def _decode_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    concrete = [kind for kind in kinds if kind is not types.NoneType]
    if len(concrete) == 1:
        return decode(concrete[0], value, where)
    if type(value) not in concrete:
        raise InvalidSpec(f"{where}: expected one of {_names(concrete)}, found {_found(value)}")
    return value


def _decode_fields(cls: Any, members: dict[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if unknown := sorted(members.keys() - fields.keys()):
        raise InvalidSpec(f"{where}: unknown field {unknown[0]!r}; known: {', '.join(fields)}")
    required = [
        name
        for name, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing := [name for name in required if name not in members]:
        raise InvalidSpec(f"{where}: missing field {missing[0]!r}")
    return cls(
        **{name: decode(hints[name], item, f"{where}.{name}") for name, item in members.items()}
    )


def _one_of(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    if type(value) is not str or value not in choices:
        raise InvalidSpec(f"{where}: expected one of {', '.join(choices)}, found {_found(value)}")
    return value


def _typed(kind: Any, value: Any, where: str) -> Any:
    """`value` if it is of that type; an integer is also a float, a bool is never an integer."""
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise InvalidSpec(f"{where}: expected {_names([kind])}, found {_found(value)}")
    return value


def _names(kinds: list[Any]) -> str:
    return ", ".join({dict: "object", list: "list"}.get(kind, kind.__name__) for kind in kinds)


def _found(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
