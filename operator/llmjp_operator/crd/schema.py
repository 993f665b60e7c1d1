"""Structural OpenAPI schemas, which the API server enforces, of the dataclasses of `api`. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llmjp_builder.contracts.constraints import (
    Entries,
    Forbidden,
    IntegerOrString,
    Items,
    Length,
    Matches,
    OneOf,
    Opaque,
    Range,
    Timestamp,
)
from llmjp_builder.contracts.docstrings import read_class_doc, read_field_docs
from llmjp_builder.contracts.schema import SchemaBuilder
from llmjp_operator.api.codec import encode, is_empty, list_api_fields
from llmjp_operator.api.field_types import CelRule

if TYPE_CHECKING:
    from llmjp_builder.contracts.fields import FieldType, JsonField

Object = dict[str, Any]


class _StructuralSchemas(SchemaBuilder):
    """Schemas without references, with constraints and with rules in CEL."""

    def build_type(self, field_type: FieldType) -> Object:
        if field_type.constraint(IntegerOrString):
            schema: Object = {"x-kubernetes-int-or-string": True}
        elif field_type.constraint(Opaque):
            schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        else:
            schema = super().build_type(field_type)
        mixed = field_type.constraint(IntegerOrString) is not None
        for constraint in field_type.constraints:
            _add_constraint(schema, constraint, mixed=mixed)
        return schema

    def build_enum(self, choices: tuple[str, ...]) -> Object:
        return {"type": "string", "enum": list(choices)}

    def build_object(self, cls: type) -> Object:
        docs, fields = read_field_docs(cls), list_api_fields(cls)
        schema: Object = {"description": read_class_doc(cls), "type": "object"}
        if required := [field.name for field in fields if field.required]:
            schema["required"] = required
        properties = {f.name: self._build_property(f, docs.get(f.attribute, "")) for f in fields}
        schema["properties"] = properties
        if rules := list_rules(cls):
            schema["x-kubernetes-validations"] = [render_rule(rule) for rule in rules]
        return schema

    def _build_property(self, field: JsonField, doc: str) -> Object:
        forbidden = field.type.constraint(Forbidden)
        description = f"Refused: {forbidden.reason}." if forbidden else doc
        schema = self.build_type(field.type)
        if description:
            schema.pop("description", None)
            schema = {"description": description, **schema}
        default = encode(field.default)
        if not field.required and not is_empty(default):
            # In full: the API server holds it against the rules before it fills in what is missing.
            schema["default"] = default
        return schema


def build_schema(cls: type) -> Object:
    """Return the structural schema of a dataclass."""
    return _StructuralSchemas().build_object(cls)


def list_rules(cls: type) -> tuple[CelRule, ...]:
    """Return the rules of a dataclass, and one for each forbidden field."""
    declared: tuple[CelRule, ...] = getattr(cls, "RULES", ())
    forbidden = (
        CelRule(
            f"!has(self.{field.name})",
            f"{field.name} {constraint.reason}",
            f".{field.name}",
            "FieldValueForbidden",
        )
        for field in list_api_fields(cls)
        if (constraint := field.type.constraint(Forbidden))
    )
    return (*declared, *forbidden)


def render_rule(rule: CelRule) -> Object:
    """Return a rule as an entry of `x-kubernetes-validations`."""
    entry = {"rule": rule.expression, "message": rule.sentence, "reason": rule.reason}
    return entry | ({"fieldPath": rule.field} if rule.field else {})


def _add_constraint(schema: Object, constraint: object, *, mixed: bool) -> None:
    match constraint:
        case Range(least, most):
            schema |= {"minimum": least, "maximum": most}
        case Length(least, most):
            schema |= {"minLength": least, "maxLength": most}
        case OneOf(choices):
            schema["enum"] = list(choices)
        case Items(most, key):
            schema["maxItems"] = most
            if key is not None:
                schema |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}
        case Entries(most):
            schema["maxProperties"] = most
        case Timestamp():
            schema["format"] = "date-time"
        case Matches(pattern, sentence):
            text = "string(self)" if mixed else "self"
            rule = CelRule(f"{text}.matches({json.dumps(pattern)})", sentence)
            schema["x-kubernetes-validations"] = [render_rule(rule)]
        case _:
            pass
