"""What of an object is ours: the fields that our field manager owns, with the values they have now.

Server-side apply keeps, in `metadata.managedFields`, which manager owns which field; who changes a
field of ours takes it over. So what we own, with its present values, equals what we applied exactly
as long as nobody meddled, and two digests tell whether anything is to be written. Pure.
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
    """The part of an object that was applied by `manager`; empty where there is none."""
    entries = (live.get("metadata") or {}).get("managedFields") or ()
    for entry in entries:
        ours = entry.get("manager") == manager and entry.get("operation") == "Apply"
        if ours and not entry.get("subresource"):
            found = _select(live, entry.get("fieldsV1") or {})
            return found if isinstance(found, dict) else {}
    return {}


def compute_object_digest(obj: Mapping[str, Any]) -> str:
    """Of everything that can be applied, whatever the order of keys and of items with keys."""
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
    """The part of a value that the fields name; all of it where they name none."""
    names = [name for name in fields if name != "."]
    if not names:
        return value
    if isinstance(value, list):
        return [_select_item(value, name, fields[name]) for name in names if _has_item(value, name)]
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
    assert found is not None, "it was looked for"
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
"""Of fields that are keys (k8s.io/api, +default)."""


def _sort(value: Any) -> Any:
    """Without order, where none matters: lists of objects are compared as sets."""
    if isinstance(value, dict):
        return {key: _sort(item) for key, item in value.items()}
    if isinstance(value, list):
        items = [_sort(item) for item in value]
        objects = all(isinstance(item, dict) for item in items)
        return sorted(items, key=to_canonical_json) if objects else items
    return value
