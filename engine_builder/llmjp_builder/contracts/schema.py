"""JSON Schemas of dataclasses, from the annotations that the codec reads."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from llmjp_builder.contracts.docstrings import read_field_docs
from llmjp_builder.contracts.fields import FieldType, JsonField, list_fields, parse_annotation

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TYPE_NAMES: Mapping[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}


class SchemaBuilder:
    """Schemas of annotations; a subclass decides on objects, enumerations and constraints."""

    def build_type(self, field_type: FieldType) -> Schema:
        """Return the schema of a type."""
        kind = field_type.kind
        if typing.get_origin(kind) is not None:
            return self._build_generic(kind)
        if dataclasses.is_dataclass(kind):
            return self.build_object(typing.cast("type", kind))
        if kind is Any:
            return {}
        if issubclass(kind, StrEnum):
            return self.build_enum(tuple(member.value for member in kind))
        return {"type": TYPE_NAMES[kind]}

    def _build_generic(self, kind: Any) -> Schema:
        origin, args = typing.get_origin(kind), typing.get_args(kind)
        if origin is Literal:
            return self.build_enum(args)
        if origin is tuple:
            return {"type": "array", "items": self.build_type(parse_annotation(args[0]))}
        if origin is Mapping:
            items = self.build_type(parse_annotation(args[1]))
            return {"type": "object", "additionalProperties": items}
        assert origin in {types.UnionType, typing.Union}, kind
        return {"anyOf": [self.build_type(parse_annotation(member)) for member in args]}

    def build_enum(self, choices: tuple[str, ...]) -> Schema:
        """Return the schema of one string out of several."""
        return {"enum": list(choices)}

    def build_object(self, cls: type) -> Schema:
        """Return the schema of a dataclass."""
        raise NotImplementedError


class _ContractSchemas(SchemaBuilder):
    """Schemas of contracts: each dataclass once, in `definitions`."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}

    def build_object(self, cls: type) -> Schema:
        if cls.__name__ not in self.definitions:
            self.definitions[cls.__name__] = {}
            self.definitions[cls.__name__] = self._define(cls)
        return {"$ref": f"#/$defs/{cls.__name__}"}

    def _define(self, cls: type) -> Schema:
        docs, fields = read_field_docs(cls), list_fields(cls, str)
        required = [field.name for field in fields if field.required]
        return {
            "description": inspect.cleandoc(cls.__doc__ or ""),
            "type": "object",
            "properties": {f.name: self._build_property(f, docs.get(f.name)) for f in fields},
            **({"required": required} if required else {}),
            "additionalProperties": False,
        }

    def _build_property(self, field: JsonField, doc: str | None) -> Schema:
        schema = self.build_type(field.type)
        if doc is not None:
            schema["description"] = doc
        if field.default is not None and not isinstance(field.default, Mapping):
            schema["default"] = field.default
        return schema


def build_contract_schema(contract: type) -> Schema:
    """Return the JSON Schema (2020-12) of what a contract's `from_json` takes.

    It says as much as types say; rules between fields are not in it.
    """
    schemas = _ContractSchemas()
    schemas.build_object(contract)
    body = schemas.definitions.pop(contract.__name__)
    schema = {"$schema": DIALECT, "title": contract.__name__, **body}
    return {**schema, "$defs": schemas.definitions} if schemas.definitions else schema
