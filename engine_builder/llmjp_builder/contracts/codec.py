"""Conversion between frozen dataclasses and JSON, strict: what does not fit its annotation fails.

One walk over values and annotations serves the JSON contracts and the custom resource; a `Dialect`
holds what differs between the two: names, what is left out, and the sentences of errors. Standard
library only.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, Literal, Protocol

from llmjp_builder.contracts.constraints import Forbidden, IntegerOrString, find_violation
from llmjp_builder.contracts.errors import InvalidSpec
from llmjp_builder.contracts.fields import FieldType, JsonField, list_fields, parse_annotation

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_SHOWN = 60
"""Characters of a wrong value that an error repeats."""


class Dialect(Protocol):
    """Names and sentences of one family of JSON documents."""

    def json_name(self, attribute: str) -> str:
        """Return the JSON name of a dataclass's field."""

    def is_omitted(self, field: JsonField, value: Any, encoded: Any) -> bool:
        """Return whether a field with that value is left out of JSON."""

    def expect_types(self, kinds: Sequence[type]) -> str:
        """Return the part of an error that says which types were expected."""

    def expect_choices(self, choices: Sequence[str]) -> str:
        """Return the part of an error that says which strings were expected."""

    def make_error(self, path: str, problem: str) -> Exception:
        """Return the error about the value at `path`."""

    def make_unknown_field_error(self, path: str, name: str, known: Sequence[str]) -> Exception:
        """Return the error about a field of the object at `path` that is not in its dataclass."""

    def make_missing_field_error(self, path: str, name: str) -> Exception:
        """Return the error about a required field that the object at `path` lacks."""


@dataclasses.dataclass(frozen=True, slots=True)
class Codec:
    """Encoding and decoding in one dialect."""

    dialect: Dialect
    strict: bool = True
    """Whether unknown fields are errors; otherwise they are ignored."""

    def encode(self, value: Any) -> Any:
        """Return a dataclass, or a part of one, as JSON values."""
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dict(self._encode_fields(value))
        if isinstance(value, Mapping):
            return {key: self.encode(item) for key, item in value.items()}
        if isinstance(value, tuple):
            return [self.encode(item) for item in value]
        return value.value if isinstance(value, Enum) else value

    def _encode_fields(self, value: Any) -> typing.Iterator[tuple[str, Any]]:
        cls: type = type(value)
        for field in list_fields(cls, self.dialect.json_name):
            item = getattr(value, field.attribute)
            encoded = self.encode(item)
            if not self.dialect.is_omitted(field, item, encoded):
                yield field.name, encoded

    def decode(self, annotation: Any, value: Any, path: str) -> Any:
        """Return parsed JSON as a value of that annotation.

        Args:
            annotation: bool, int, float, str, a StrEnum, a Literal of strings, a dataclass,
                `tuple[X, ...]`, `Mapping[str, X]`, `X | None`, a union of plain types, Any, or
                one of these with constraints.
            value: result of `json.loads`.
            path: path to the value, for errors.
        """
        return self._decode(parse_annotation(annotation), value, path)

    def _decode(self, field_type: FieldType, value: Any, path: str) -> Any:
        if value is None and field_type.nullable:
            return None
        given, kind = value, field_type.kind
        if field_type.constraint(IntegerOrString) and kind is str and type(value) is int:
            value = str(value)
        decoded = self._decode_kind(kind, value, path)
        for constraint in field_type.constraints:
            if violation := find_violation(constraint, decoded):
                raise self._mismatch(path, violation, given)
        return decoded

    def _decode_kind(self, kind: Any, value: Any, path: str) -> Any:
        if typing.get_origin(kind) is not None:
            return self._decode_generic(kind, value, path)
        if dataclasses.is_dataclass(kind):
            return self._decode_object(kind, self._typed((dict,), value, path), path)
        if kind is Any:
            return value
        if issubclass(kind, StrEnum):
            return kind(self._one_of(tuple(member.value for member in kind), value, path))
        return self._typed((kind,), value, path)

    def _decode_generic(self, kind: Any, value: Any, path: str) -> Any:
        origin, args = typing.get_origin(kind), typing.get_args(kind)
        if origin is Literal:
            return self._one_of(args, value, path)
        if origin is tuple:
            items, item_type = self._typed((list,), value, path), parse_annotation(args[0])
            return tuple(self._decode(item_type, v, f"{path}[{i}]") for i, v in enumerate(items))
        if origin is Mapping:
            members, item_type = self._typed((dict,), value, path), parse_annotation(args[1])
            return {k: self._decode(item_type, v, f"{path}.{k}") for k, v in members.items()}
        assert origin in {types.UnionType, typing.Union}, kind
        return self._typed(args, value, path)

    def _decode_object(self, cls: Any, members: dict[str, Any], path: str) -> Any:
        fields = {field.name: field for field in list_fields(cls, self.dialect.json_name)}
        if self.strict and (unknown := sorted(members.keys() - fields.keys())):
            raise self.dialect.make_unknown_field_error(path, unknown[0], tuple(fields))
        values = {}
        for name, field in fields.items():
            if name in members:
                if forbidden := field.type.constraint(Forbidden):
                    raise self.dialect.make_error(f"{path}.{name}", forbidden.reason)
                values[field.attribute] = self._decode(field.type, members[name], f"{path}.{name}")
            elif field.required:
                raise self.dialect.make_missing_field_error(path, name)
        try:
            return cls(**values)
        except ValueError as exc:
            raise self.dialect.make_error(path, str(exc)) from exc

    def _one_of(self, choices: tuple[str, ...], value: Any, path: str) -> Any:
        if type(value) is not str or value not in choices:
            raise self._mismatch(path, self.dialect.expect_choices(choices), value)
        return value

    def _typed(self, kinds: tuple[type, ...], value: Any, path: str) -> Any:
        """Return the value if it has one of the types; an int is also a float, a bool no int."""
        if kinds == (float,) and type(value) is int:
            return float(value)
        if type(value) not in kinds:
            raise self._mismatch(path, self.dialect.expect_types(kinds), value)
        return value

    def _mismatch(self, path: str, expected: str, value: object) -> Exception:
        text = json.dumps(value, ensure_ascii=False, default=str)
        shown = text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."
        return self.dialect.make_error(path, f"{expected}, found {shown}")


class _ContractDialect:
    """JSON with the attributes' own names; fields that are None are left out."""

    def json_name(self, attribute: str) -> str:
        return attribute

    def is_omitted(self, field: JsonField, value: Any, encoded: Any) -> bool:  # noqa: ARG002
        return value is None

    def expect_types(self, kinds: Sequence[type]) -> str:
        spelled: dict[type, str] = {dict: "object", list: "list"}
        names = ", ".join(spelled.get(kind, kind.__name__) for kind in kinds)
        return f"expected {names}" if len(kinds) == 1 else f"expected one of {names}"

    def expect_choices(self, choices: Sequence[str]) -> str:
        return f"expected one of {', '.join(choices)}"

    def make_error(self, path: str, problem: str) -> Exception:
        return InvalidSpec(f"{path}: {problem}")

    def make_unknown_field_error(self, path: str, name: str, known: Sequence[str]) -> Exception:
        return InvalidSpec(f"{path}: unknown field {name!r}; known: {', '.join(known)}")

    def make_missing_field_error(self, path: str, name: str) -> Exception:
        return InvalidSpec(f"{path}: missing field {name!r}")


_CONTRACTS = Codec(_ContractDialect())
_LENIENT = Codec(_ContractDialect(), strict=False)


def encode(value: Any) -> Any:
    """Return a contract, or a part of one, as JSON values; fields that are None are left out."""
    return _CONTRACTS.encode(value)


def decode(annotation: Any, value: Any, path: str, *, strict: bool = True) -> Any:
    """Return parsed JSON as a value of the annotation: see `Codec.decode`.

    Args:
        annotation: see `Codec.decode`.
        value: result of `json.loads`.
        path: path to the value, for errors.
        strict: refuse unknown fields; otherwise they are ignored, for what another version wrote.

    Raises:
        InvalidSpec: it does not fit; the message says where, what was expected and what was found.
    """
    return (_CONTRACTS if strict else _LENIENT).decode(annotation, value, path)
