"""Dataclasses of `api` as the structural OpenAPI schema that the API server enforces. Pure."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from llmjp_operator.api.decode import encode
from llmjp_operator.api.forms import Form, Property, empty, form_of, properties
from llmjp_operator.api.markers import (
    Entries,
    IntegerOrString,
    Items,
    Length,
    Matches,
    OneOf,
    Opaque,
    Range,
    Refused,
    Rule,
    Timestamp,
)
from llmjp_operator.crd.docstrings import class_doc, field_docs

Object = dict[str, Any]

_PLAIN = {bool: "boolean", int: "integer", float: "number", str: "string"}


def object_schema(cls: type, description: str = "") -> Object:
    """The schema of a dataclass."""
    docs, members = field_docs(cls), properties(cls)
    schema: Object = {"description": description or class_doc(cls), "type": "object"}
    if required := [member.name for member in members if member.required]:
        schema["required"] = required
    schema["properties"] = {m.name: _property(m, docs.get(m.attribute, "")) for m in members}
    if rules := rules_of(cls):
        schema["x-kubernetes-validations"] = [validation(rule) for rule in rules]
    return schema


def rules_of(cls: type) -> tuple[Rule, ...]:
    """The rules of a dataclass, and one for each field that exists in order to be refused."""
    declared: tuple[Rule, ...] = getattr(cls, "RULES", ())
    refused = (
        Rule(f"!has(self.{m.name})", f"{m.name} {r.reason}", f".{m.name}", "FieldValueForbidden")
        for m in properties(cls)
        if (r := m.form.marker(Refused))
    )
    return (*declared, *refused)


def _property(member: Property, description: str) -> Object:
    refused = member.form.marker(Refused)
    schema = _schema(member.form, f"Refused: {refused.reason}." if refused else description)
    default = encode(member.default)
    if not member.required and not empty(default):
        # In full: the API server holds it against the rules before it fills in what is missing.
        schema["default"] = default
    return schema


def _schema(form: Form, description: str = "") -> Object:
    schema: Object = {"description": description} if description else {}
    if form.marker(IntegerOrString):
        schema["x-kubernetes-int-or-string"] = True
    elif form.marker(Opaque):
        schema |= {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    else:
        schema |= _of_kind(form.kind, description)
    for marker in form.markers:
        _mark(schema, marker, mixed=form.marker(IntegerOrString) is not None)
    return schema


def _of_kind(kind: Any, description: str) -> Object:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return {"type": "string", "enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _schema(form_of(arguments[0]))}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _schema(form_of(arguments[1]))}
    if dataclasses.is_dataclass(kind):
        return object_schema(typing.cast("type", kind), description)
    assert not isinstance(origin, types.UnionType), kind
    if issubclass(kind, StrEnum):
        return {"type": "string", "enum": [member.value for member in kind]}
    return {"type": _PLAIN[kind]}


def _mark(schema: Object, marker: object, *, mixed: bool) -> None:
    match marker:
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
            rule = Rule(f"{text}.matches({json.dumps(pattern)})", sentence)
            schema["x-kubernetes-validations"] = [validation(rule)]
        case _:
            pass


def validation(rule: Rule) -> Object:
    """A rule as the API server takes it."""
    validation = {"rule": rule.expression, "message": rule.sentence, "reason": rule.reason}
    return validation | ({"fieldPath": rule.field} if rule.field else {})
