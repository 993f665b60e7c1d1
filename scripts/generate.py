"""Writes what is derived from the code.

JSON Schemas of the contracts are made here, the custom resource's definition and reference page
in `llmjp_operator.crd`, what belongs to the chart in `scripts.chart_files`.

python scripts/generate.py [--check]
"""

from __future__ import annotations

import ast
import builtins
import collections.abc
import dataclasses
import inspect
import itertools
import sys
import textwrap
import types
import typing
from enum import StrEnum
from pathlib import Path
from typing import Any

from llmjp_builder.contracts import spec
from llmjp_operator.crd.files import crd_files

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.chart_files import NoHelm, chart_files, renders, tools  # noqa: E402  as a script, too

SCHEMAS = "docs/schemas"
CONTRACTS: tuple[type, ...] = (
    spec.BuildSpec,
    spec.Manifest,
    spec.Progress,
    spec.Resolution,
    spec.Built,
    spec.Failure,
)
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}


def schema_of(contract: type) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a contract: what `from_json` takes, as far as types say it."""
    definitions: dict[str, Any] = {}
    _define(contract, definitions)
    body = definitions.pop(contract.__name__)
    schema = {"$schema": DIALECT, "title": contract.__name__, **body}
    return {**schema, "$defs": definitions} if definitions else schema


def _define(contract: type, definitions: dict[str, Any]) -> None:
    """Adds `contract` and everything that it mentions."""
    if contract.__name__ in definitions:
        return
    definitions[contract.__name__] = {}
    said, hints = _attribute_docstrings(contract), typing.get_type_hints(contract)
    properties, required = {}, []
    for field in dataclasses.fields(contract):
        entry = dict(_schema(hints[field.name], definitions))
        if field.name in said:
            entry["description"] = said[field.name]
        if field.default is not dataclasses.MISSING:
            if field.default is not None:
                entry["default"] = field.default
        elif field.default_factory is dataclasses.MISSING:
            required.append(field.name)
        properties[field.name] = entry
    definitions[contract.__name__] = {
        "description": inspect.cleandoc(contract.__doc__ or ""),
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Of an annotation that the codec knows; None is an absent field."""
    if kind is Any:
        return {}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        _define(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    args = typing.get_args(kind)
    match typing.get_origin(kind):
        case types.UnionType | typing.Union:
            members = [_schema(arg, definitions) for arg in args if arg is not types.NoneType]
            schema = members[0] if len(members) == 1 else {"anyOf": members}
        case typing.Literal:
            schema = {"enum": list(args)}
        case builtins.tuple:
            schema = {"type": "array", "items": _schema(args[0], definitions)}
        case collections.abc.Mapping:
            schema = {"type": "object", "additionalProperties": _schema(args[1], definitions)}
        case _ if issubclass(kind, StrEnum):
            schema = {"enum": [member.value for member in kind]}
        case _:
            schema = {"type": _PLAIN[kind]}
    return schema


def _attribute_docstrings(contract: type) -> dict[str, str]:
    """What stands below each field, in one line; inherited fields included."""
    return {
        name: text
        for kind in reversed(contract.__mro__)
        if dataclasses.is_dataclass(kind)
        for name, text in _own_attribute_docstrings(kind).items()
    }


def _own_attribute_docstrings(contract: type) -> dict[str, str]:
    [body] = ast.parse(textwrap.dedent(inspect.getsource(contract))).body
    assert isinstance(body, ast.ClassDef)
    return {
        field.target.id: " ".join(below.value.value.split())
        for field, below in itertools.pairwise(body.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }


def schemas() -> dict[str, str]:
    """The contracts' schemas, by path in the repository."""
    return {
        f"{SCHEMAS}/{contract.__name__}.json": spec.pretty_json(schema_of(contract))
        for contract in CONTRACTS
    }


def generated() -> dict[Path, str]:
    """Every generated file that needs no helm, and what should be in it."""
    files = {**schemas(), **crd_files(), **chart_files()}
    return {ROOT / name: text for name, text in files.items()}


def rendered() -> dict[Path, str]:
    """What helm makes of the chart; nothing where there is no helm, which is said."""
    try:
        files = renders(tools() / "helm")
    except NoHelm as exc:
        print(f"the chart is not rendered: {exc}", file=sys.stderr)
        return {}
    return {ROOT / name: text for name, text in files.items()}


def main(arguments: list[str]) -> int:
    """The exit code: 1 if `--check` finds a file that is not current."""
    check = "--check" in arguments
    # helm reads the CRD and the schema, which are written before.
    return max(_settle(generated(), check=check), _settle(rendered(), check=check))


def _settle(files: dict[Path, str], *, check: bool) -> int:
    stale = {
        path: text
        for path, text in files.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    }
    for path, text in stale.items():
        if check:
            print(f"{path}: not current; run make generate", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(path)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
