"""Managed fields: the fields of an object that our field manager owns, with their current values.

Server-side apply records in `metadata.managedFields` which manager owns which field; whoever
changes a field of ours becomes its owner. So the owned fields equal what we applied exactly as long
as nobody else changed them, and comparing two digests tells whether to write anything. Pure.
Format: sigs.k8s.io/structured-merge-diff, fieldpath.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llmjp_builder.contracts.spec import to_canonical_json
from llmjp_operator.names import compute_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

Object = dict[str, Any]


def extract_owned_fields(live: Mapping[str, Any], manager: str) -> Object:
    """Return the part of an object that `manager` applied; empty if there is none."""
    entries = (live.get("metadata") or {}).get("managedFields") or ()
    for entry in entries:
        ours = entry.get("manager") == manager and entry.get("operation") == "Apply"
        if ours and not entry.get("subresource"):
            found = _select(live, entry.get("fieldsV1") or {})
            return found if isinstance(found, dict) else {}
    return {}


def compute_object_digest(obj: Mapping[str, Any]) -> str:
    """Return a digest of everything that can be applied, independent of the order of items."""
    metadata = {
        name: value
        for name, value in (obj.get("metadata") or {}).items()
        if name in {"labels", "annotations", "ownerReferences"} and value
    }
    rest = {
        name: value
        for name, value in obj.items()
        if name not in {"apiVersion", "kind", "metadata", "status"}
    }
    return compute_digest(to_canonical_json(_sort({**rest, "metadata": metadata})))


def _select(value: Any, fields: Mapping[str, Any]) -> Any:
    """Return the part of a value that the fields name; all of it if they name none."""
    names = [name for name in fields if name != "."]
    if not names:
        return value
    if isinstance(value, list):
        # In the order of the list itself: that of containers decides how pods start.
        there = [name for name in names if _has_item(value, name)]
        there.sort(key=lambda name: value.index(_find_item(value, name)))
        return [_select_item(value, name, fields[name]) for name in there]
    if not isinstance(value, dict):
        return value
    return {
        name[2:]: _select(value[name[2:]], fields[name])
        for name in names
        if name.startswith("f:") and name[2:] in value
    }


def _has_item(items: list[Any], name: str) -> bool:
    return _find_item(items, name) is not None


def _select_item(items: list[Any], name: str, fields: Mapping[str, Any]) -> Any:
    found = _find_item(items, name)
    assert found is not None, "_has_item found it"
    return _select(found, fields)


def _find_item(items: list[Any], name: str) -> Any:
    kind, _, text = name.partition(":")
    wanted = json.loads(text)
    if kind == "v":
        return next((item for item in items if item == wanted), None)
    if kind == "k":
        return next(
            (
                item
                for item in items
                if isinstance(item, dict)
                and all(item.get(key, _KEY_DEFAULTS.get(key)) == v for key, v in wanted.items())
            ),
            None,
        )
    return items[int(text)] if kind == "i" and int(text) < len(items) else None


_KEY_DEFAULTS = {"protocol": "TCP"}
"""Defaults of fields that are keys of lists (k8s.io/api, +default)."""


def _sort(value: Any) -> Any:
    """Return the value with lists of objects sorted, as they are compared as sets."""
    if isinstance(value, dict):
        return {key: _sort(item) for key, item in value.items()}
    if isinstance(value, list):
        items = [_sort(item) for item in value]
        objects = all(isinstance(item, dict) for item in items)
        return sorted(items, key=to_canonical_json) if objects else items
    return value
