"""The reference page of the custom resource, in Markdown. Pure."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from llmjp_builder.contracts.constraints import (
    Forbidden,
    IntegerOrString,
    Length,
    Matches,
    OneOf,
    Opaque,
    Range,
    Timestamp,
)
from llmjp_builder.contracts.docstrings import read_class_doc, read_field_docs
from llmjp_builder.contracts.fields import FieldType, JsonField, parse_annotation
from llmjp_builder.contracts.schema import TYPE_NAMES
from llmjp_operator.api.codec import encode, is_empty, list_api_fields
from llmjp_operator.api.spec import Spec
from llmjp_operator.api.status import Phase, Status
from llmjp_operator.crd.definition import COLUMNS, DESCRIPTION, NAME_RULES
from llmjp_operator.crd.schema import list_rules
from llmjp_operator.names import API_VERSION, KIND, SHORT_NAME
from llmjp_operator.runtimes import DEFAULT_RUNTIME, RUNTIMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LONG = 1_000_000
"""Limits from here on are not worth showing."""

_INTRO = f"""# {KIND}

<!-- Written by `make generate` from operator/llmjp_operator/api; do not edit. -->

{DESCRIPTION} Namespaced, `{API_VERSION}`, short name `{SHORT_NAME}`. The smallest one:

```yaml
apiVersion: {API_VERSION}
kind: {KIND}
metadata:
  name: llmjp-13b
spec:
  source:
    huggingFace:
      repository: llm-jp/llm-jp-3-13b-instruct3
  hardware:
    gpuProduct: NVIDIA-H100-80GB-HBM3
  storage:
    size: 200Gi
```

```
kubectl get {SHORT_NAME}                                             # more columns: --output=wide
kubectl wait --for=condition=Available {SHORT_NAME}/llmjp-13b --timeout=2h
kubectl scale {SHORT_NAME}/llmjp-13b --replicas=2
kubectl explain {SHORT_NAME}.spec.engine
```

The API server refuses invalid objects with a message when they are applied ([rules](#rules)).
Problems that depend on the checkpoint or the cluster are conditions in the [status](#status).
**Bold** fields are required.
"""


def render_reference() -> str:
    """Return the page."""
    parts = [
        _INTRO,
        *_render_object_tables("spec", Spec),
        _render_rules(),
        *_render_object_tables("status", Status),
        _render_phases(),
        _render_columns(),
        _render_runtimes(),
    ]
    return "\n".join(parts)


def walk_objects(path: str, cls: type) -> Iterator[tuple[str, type]]:
    """Yield the dataclass and those of its fields, each with the first path to it."""
    seen: set[type] = set()

    def below(path: str, cls: type) -> Iterator[tuple[str, type]]:
        if cls in seen:
            return
        seen.add(cls)
        yield path, cls
        for member in list_api_fields(cls):
            inner, suffix = _find_object(member.type)
            if inner is not None:
                yield from below(f"{path}.{member.name}{suffix}", inner)

    return below(path, cls)


def _find_object(field_type: FieldType) -> tuple[type | None, str]:
    """Return the dataclass of a field, or of the items of its list, with a suffix of the path."""
    if typing.get_origin(field_type.kind) is tuple:
        inner, _ = _find_object(parse_annotation(typing.get_args(field_type.kind)[0]))
        return inner, "[]"
    return (field_type.kind if dataclasses.is_dataclass(field_type.kind) else None), ""  # type: ignore[return-value]


def _render_object_tables(root: str, cls: type) -> Iterator[str]:
    places = {kind: path for path, kind in reversed(list(walk_objects(root, cls)))}
    for path, kind in walk_objects(root, cls):
        docs = read_field_docs(kind)
        accepted = [m for m in list_api_fields(kind) if m.type.constraint(Forbidden) is None]
        rows = (_render_row(m, docs.get(m.attribute, ""), places) for m in accepted)
        heading = "##" if path == root else "###"
        table = _render_table(("field", "type", "default", "meaning"), rows)
        yield f"{heading} {path}\n\n{read_class_doc(kind)}\n\n{table}"


def _render_row(member: JsonField, doc: str, places: Mapping[type, str]) -> tuple[str, ...]:
    name = f"**`{member.name}`**" if member.required else f"`{member.name}`"
    default = encode(member.default)
    plain = not (member.required or is_empty(default) or isinstance(default, dict))
    return name, _render_type(member.type, places), f"`{json.dumps(default)}`" if plain else "", doc


def _render_type(field_type: FieldType, places: Mapping[type, str]) -> str:
    kind = _render_kind(field_type, places)
    limits = [limit for marker in field_type.constraints if (limit := _render_limit(marker))]
    return "; ".join([kind, *limits[-1:]])


def _render_kind(field_type: FieldType, places: Mapping[type, str]) -> str:  # noqa: PLR0911 - one return per kind
    origin, arguments = typing.get_origin(field_type.kind), typing.get_args(field_type.kind)
    if field_type.constraint(IntegerOrString):
        return "quantity" if field_type.constraint(Matches) else "integer or string"
    if one_of := field_type.constraint(OneOf):
        return _join_choices(one_of.choices)
    if field_type.constraint(Opaque):
        return "object"
    if origin is Literal:
        return _join_choices(arguments)
    if origin is tuple:
        return f"list of {_render_type(parse_annotation(arguments[0]), places)}"
    if origin is Mapping:
        return f"map of string to {_render_type(parse_annotation(arguments[1]), places)}"
    if field_type.kind in places:
        path = places[field_type.kind]
        return f"[object](#{''.join(c for c in path.lower() if c.isalnum())})"
    if isinstance(field_type.kind, type) and issubclass(field_type.kind, StrEnum):
        return _join_choices(member.value for member in field_type.kind)
    return "time" if field_type.constraint(Timestamp) else TYPE_NAMES[field_type.kind]


def _join_choices(choices: Iterable[str]) -> str:
    return ", ".join(f"`{choice}`" for choice in choices)


def _render_limit(marker: object) -> str | None:
    match marker:
        case Range(least, most):
            return f"at least {least:,}" if most >= _LONG else f"{least:,} to {most:,}"
        case Length(_, most):
            return f"at most {most:,} characters"
        case Matches(_, sentence):
            return sentence
        case _:
            return None


def _render_rules() -> str:
    rows = [("metadata.name", rule.sentence) for rule in NAME_RULES]
    for path, kind in walk_objects("spec", Spec):
        rows += [(f"{path}{rule.field}", rule.sentence) for rule in list_rules(kind)]
    table = _render_table(("where", "message of the API server"), ((f"`{a}`", b) for a, b in rows))
    return (
        "## Rules\n\nThe API server checks these when an object is created or changed. Rules of "
        f"containers hold for `initContainers`, too, and those of build resources for "
        f"`serving`.\n\n{table}"
    )


def _render_phases() -> str:
    docs = read_field_docs(Phase)
    rows = ((f"`{phase.value}`", docs[phase.name]) for phase in Phase)
    return f"### Phases\n\n{_render_table(('phase', 'meaning'), rows)}"


def _render_columns() -> str:
    rows = ((c.name, f"`{c.path}`", c.meaning, "wide" if c.wide else "") for c in COLUMNS)
    return f"## Columns\n\n{_render_table(('column', 'path', 'meaning', ''), rows)}"


def _render_runtimes() -> str:
    rows = (
        (
            f"`{version}`" + (" (default)" if version == DEFAULT_RUNTIME else ""),
            *(row.tensorrt_llm, row.tensorrt, row.python, row.cuda, row.minimum_driver),
            f"`{row.image}`",
        )
        for version, row in RUNTIMES.items()
    )
    names = ("version", "TensorRT-LLM", "TensorRT", "Python", "CUDA", "driver", "image")
    return (
        "## Runtimes\n\nVersions behind each `spec.runtime.version`. An engine is only ever "
        f"served with the row that it was built with.\n\n{_render_table(names, rows)}"
    )


def _render_table(names: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    lines = [names, ("---",) * len(names), *rows]
    return "".join(
        f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |\n"
        for line in lines
    )
