"""Items of a store: as rows for a person, as objects for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from llmjp_builder.contracts.errors import BadArtefact
from llmjp_builder.contracts.spec import Manifest
from llmjp_builder.store.gc import ItemKind
from llmjp_builder.store.leases import find_label
from llmjp_cli.units import format_bytes, format_time_since

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from llmjp_builder.store.check import CheckResult
    from llmjp_builder.store.gc import CollectionResult, StoreItem


def print_items(store: Path, items: Iterable[StoreItem], now: float) -> None:
    """Print what a store holds."""
    head = ["NAME", "KIND", "MODEL", "LAYOUT", "WEIGHTS", "SIZE", "LAST USE", "IN USE BY"]
    rows = [
        [
            item.name,
            *_format_layout(store, item),
            format_bytes(item.size),
            _format_last_use(item, now),
            ", ".join(item.users),
        ]
        for item in items
    ]
    _print_table(head, rows)


def print_removed(collected: CollectionResult, now: float, *, dry_run: bool) -> None:
    """Print what a garbage collection removed, or would remove, and what it kept."""
    rows = [
        [item.name, item.kind.value, format_bytes(item.size), _format_last_use(item, now)]
        for item in collected.removed
    ]
    if rows:
        _print_table(["WOULD REMOVE" if dry_run else "REMOVED", "KIND", "SIZE", "LAST USE"], rows)
    freed = format_bytes(sum(item.size for item in collected.removed))
    left = format_bytes(collected.bytes_left)
    typer.echo(f"{freed} {'would be ' if dry_run else ''}freed, {left} left")
    for item in collected.in_use:
        why = ", ".join(item.users) or "a process builds or reads it, or you said to keep it"
        typer.echo(f"kept, in use: {item.name}  {why}", err=True)


def print_checks(found: Iterable[CheckResult]) -> None:
    """Print whether items are damaged."""
    rows = [
        [one.item.name, one.item.kind.value, format_bytes(one.item.size), one.fault or "ok"]
        for one in found
    ]
    _print_table(["NAME", "KIND", "SIZE", "RESULT"], rows)


def describe_items(store: Path, items: Iterable[StoreItem]) -> list[dict[str, Any]]:
    """Return items as JSON objects."""
    return [describe_item(store, item) for item in items]


def describe_item(store: Path, item: StoreItem) -> dict[str, Any]:
    """Return an item as a JSON object."""
    details = _read_details(store, item)
    return {
        "name": item.name,
        **{name: value for name, value in details.items() if value is not None},
        "bytes": item.size,
        "last_use": round(item.last_use),
        "in_use_by": list(item.users),
    }


def _read_details(store: Path, item: StoreItem) -> dict[str, Any]:
    """Return what an item's manifest and its builder say about it."""
    details: dict[str, Any] = {"kind": item.kind.value, "model": find_label(store, item.name)}
    if item.kind is not ItemKind.ARTEFACT or not item.path.exists():
        return details
    try:
        manifest = Manifest.load(item.path)
    except BadArtefact as error:
        return {**details, "kind": "damaged", "fault": str(error)}
    return {
        **details,
        "kind": manifest.kind.value,
        "tensor_parallel": manifest.tensor_parallel,
        "pipeline_parallel": manifest.pipeline_parallel,
        "dtype": manifest.dtype,
        "quantization": manifest.inputs.quantization,
        "kv_cache": manifest.inputs.kv_cache,
        "checkpoint_key": manifest.checkpoint_key,
    }


def _format_layout(store: Path, item: StoreItem) -> list[str]:
    """Return kind, model, layout and element type of the weights."""
    details = _read_details(store, item)
    row = [details["kind"], details["model"] or ""]
    if "dtype" not in details:
        return [*row, "", ""]
    quantized = details["quantization"] != "none"
    weights = details["quantization"] if quantized else details["dtype"]
    layout = f"tp {details['tensor_parallel']} pp {details['pipeline_parallel']}"
    return [*row, layout, weights]


def _format_last_use(item: StoreItem, now: float) -> str:
    return "now" if item.users else format_time_since(max(0.0, now - item.last_use))


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns as wide as they need to be; programs use --json."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
