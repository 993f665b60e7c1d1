"""The chart's README and values.schema.json, made of the comments in its values.yaml. Pure.

A comment right above a key is its description; `# @schema {...}` there is what its schema says
besides the type of the default; a line with two hashes begins a section. A block of keys is part of
the form, unless its schema says `type`: then it is one value, given as a whole.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SCHEMA = "@schema "
_KEY = re.compile(r'( *)("[^"]+"|[A-Za-z0-9]+):( |$)')
_TYPES = {bool: "boolean", int: "integer", str: "string", list: "array", dict: "object"}
_OBJECT = {"type": "object"}


@dataclass(slots=True)
class Value:
    """One key of values.yaml, with those below it."""

    path: tuple[str, ...]
    default: Any
    section: str
    description: str
    schema: dict[str, Any]
    below: list[Value] = field(default_factory=list)

    @property
    def name(self) -> str:
        """As `--set` spells it."""
        return ".".join(part.replace(".", "\\.") for part in self.path)

    @property
    def leaf(self) -> bool:
        """Whether it is given as a whole."""
        return not self.below


def values(text: str) -> list[Value]:
    """What is at the top of values.yaml, in order."""
    defaults = yaml.safe_load(text)
    top: list[Value] = []
    open_: list[tuple[int, Value]] = []
    comment: list[str] = []
    section = ""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("## "):
            section = stripped.removeprefix("## ")
        if not stripped.startswith("# "):
            key, comment_above, comment = _KEY.match(line), comment, []
        else:
            comment.append(stripped.removeprefix("# "))
            continue
        if key is None:
            continue
        indent = len(key[1])
        while open_ and open_[-1][0] >= indent:
            open_.pop()
        if open_ and "type" in open_[-1][1].schema:
            continue
        path = (*(open_[-1][1].path if open_ else ()), key[2].strip('"'))
        description, schema = _comment(comment_above)
        value = Value(path, _at(defaults, path), section, description, schema)
        (open_[-1][1].below if open_ else top).append(value)
        open_.append((indent, value))
    return top


def _comment(lines: Iterable[str]) -> tuple[str, dict[str, Any]]:
    """Description and schema."""
    said: list[str] = []
    also: dict[str, Any] = {}
    for line in lines:
        if line.startswith(SCHEMA):
            also |= yaml.safe_load(line.removeprefix(SCHEMA))
        else:
            said.append(line)
    return " ".join(said), also


def _at(defaults: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        defaults = defaults[part]
    return defaults


def leaves(tree: Iterable[Value]) -> Iterator[Value]:
    """All that can be set by themselves."""
    for value in tree:
        if value.leaf:
            yield value
        else:
            yield from leaves(value.below)


def schema(tree: Iterable[Value], title: str) -> str:
    """values.schema.json."""
    document = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": title,
        **_form(tree),
    }
    # Helm hands it to every chart that is part of another one.
    document["properties"]["global"] = {"description": "Helm's own; nothing here reads it."}
    return json.dumps(document, indent=2) + "\n"


def _form(tree: Iterable[Value]) -> dict[str, Any]:
    properties = {value.path[-1]: _property(value) for value in tree}
    return {**_OBJECT, "additionalProperties": False, "properties": properties}


def _property(value: Value) -> dict[str, Any]:
    said = {"description": value.description} if value.description else {}
    if not value.leaf:
        return {**said, **_form(value.below), **value.schema}
    kind = {"type": _TYPES[type(value.default)], "default": value.default}
    return {**said, **kind, **value.schema}


def table(tree: Iterable[Value]) -> str:
    """The values in Markdown, by section."""
    sections: dict[str, list[Value]] = {}
    for value in tree:
        sections.setdefault(value.section, []).append(value)
    parts = []
    for section, members in sections.items():
        rows = [row for member in members for row in _rows(member)]
        head = ["| value | default | meaning |", "|---|---|---|"]
        parts.append("\n".join([f"### {section}", "", *head, *rows, ""]))
    return "\n".join(parts)


def _rows(value: Value) -> Iterator[str]:
    if value.leaf:
        default = _code(json.dumps(value.default, ensure_ascii=False))
        yield f"| `{value.name}` | {default} | {_cell(value)} |"
        return
    if value.description:
        yield f"| `{value.name}` | | {_cell(value)} |"
    for member in value.below:
        yield from _rows(member)


def _code(text: str) -> str:
    return f"`{text}`" if len(text) <= 80 else "see values.yaml"


def _cell(value: Value) -> str:
    said = value.description
    choices = value.schema.get("enum")
    if choices and not all(f"`{choice}`" in said for choice in choices):
        said += f" One of {', '.join(f'`{choice}`' for choice in choices)}."
    return said.replace("|", "\\|")


def replaced(text: str, parts: Mapping[str, str]) -> str:
    """The text, with what is between `<!-- NAME: begin -->` and `<!-- NAME: end -->` put anew."""
    for name, part in parts.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        before, found, rest = text.partition(begin)
        assert found, name
        _, found, after = rest.partition(end)
        assert found, name
        text = f"{before}{begin}{part}{end}{after}"
    return text
