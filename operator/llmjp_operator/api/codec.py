"""Conversion between the dataclasses of `api` and JSON as the Kubernetes API spells it.

Rules of CEL over several fields are the API server's and are not checked again here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from llmjp_builder.contracts.codec import Codec
from llmjp_builder.contracts.fields import JsonField, list_fields
from llmjp_operator.errors import InvalidModel

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

_CAPITALS = {"api": "API", "pid": "PID", "ipc": "IPC"}
_TYPE_NAMES = {dict: "object", list: "list", str: "string", int: "integer", bool: "boolean"}


class _ApiDialect:
    """Names in camel case; defaults without content are left out."""

    def json_name(self, attribute: str) -> str:
        return to_camel_case(attribute)

    def is_omitted(self, field: JsonField, value: Any, encoded: Any) -> bool:
        return not field.required and value == field.default and is_empty(encoded)

    def expect_types(self, kinds: Sequence[type]) -> str:
        return f"must be of type {' or '.join(_TYPE_NAMES.get(kind, 'number') for kind in kinds)}"

    def expect_choices(self, choices: Sequence[str]) -> str:
        return f"must be one of {', '.join(choices)}"

    def make_error(self, path: str, problem: str) -> Exception:
        return InvalidModel(path, problem)

    def make_unknown_field_error(self, path: str, name: str, known: Sequence[str]) -> Exception:  # noqa: ARG002
        return InvalidModel(f"{path}.{name}", "unknown field")

    def make_missing_field_error(self, path: str, name: str) -> Exception:
        return InvalidModel(f"{path}.{name}", "required, but missing")


class _GivenDialect(_ApiDialect):
    """Whatever equals its default is left out."""

    def is_omitted(self, field: JsonField, value: Any, encoded: Any) -> bool:  # noqa: ARG002
        return not field.required and value == field.default


_STRICT = Codec(_ApiDialect())
_GIVEN = Codec(_GivenDialect())
_LENIENT = Codec(_ApiDialect(), strict=False)


def decode(cls: type[T], value: object, path: str, *, strict: bool = True) -> T:
    """Return JSON values as the dataclass `cls`.

    Args:
        cls: a dataclass of `api`.
        value: result of `json.loads`.
        path: path to the value, for errors.
        strict: refuse unknown fields; otherwise they are ignored.

    Raises:
        InvalidModel: names the path, what was expected and what was found.
    """
    codec = _STRICT if strict else _LENIENT
    return cast("T", codec.decode(cls, value, path))


def encode(value: Any) -> Any:
    """Return a dataclass, or a part of one, as JSON values without empty defaults."""
    return _STRICT.encode(value)


def encode_given(value: Any) -> Any:
    """Return a dataclass as JSON values without all that equals its default, for digests."""
    return _GIVEN.encode(value)


def list_api_fields(cls: type) -> tuple[JsonField, ...]:
    """Return the fields of a dataclass of `api`, in order."""
    return list_fields(cls, to_camel_case)


def to_camel_case(attribute: str) -> str:
    """Return an attribute's name in JSON, with capitals as the Kubernetes API has them."""
    first, *rest = attribute.split("_")
    return first + "".join(_CAPITALS.get(word, word.capitalize()) for word in rest)


def is_empty(value: object) -> bool:
    """Return whether a JSON value has no content: such defaults are neither shown nor written."""
    return value is None or value == "" or (isinstance(value, dict | list) and not value)
