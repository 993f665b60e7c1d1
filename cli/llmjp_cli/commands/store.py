"""`llmjp store ls|gc|remove|check`. Nothing heavy is imported before one runs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmjp_cli.units import format_bytes, parse_duration, parse_size

if TYPE_CHECKING:
    from llmjp_builder.store.gc import CollectionResult

StoreFolder = Annotated[Path, typer.Option("--store", help="The store's folder.")]
StoreAsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON: sizes in bytes, times in seconds since 1970.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def list_store(
    store: StoreFolder,
    every: Annotated[
        bool, typer.Option("--all", "-a", help="Also list sources, downloads, caches and logs.")
    ] = False,
    as_json: StoreAsJson = False,
) -> None:
    """List a store's artefacts: kind, size, when they were last used, and who uses them now.

    Example: llmjp store ls --store ~/llmjp-store
    """
    from llmjp_builder.store.gc import ItemKind, list_items
    from llmjp_cli.tables.store_table import describe_items, print_items

    now = time.time()
    items = [item for item in list_items(store, now) if every or item.kind is ItemKind.ARTEFACT]
    if as_json:
        typer.echo(json.dumps(describe_items(store, items), ensure_ascii=False))
    else:
        print_items(store, items, now)


KeepBytes = Annotated[
    int | None,
    typer.Option(
        parser=parse_size,
        metavar="SIZE",
        show_default="no limit",
        help="Remove the least recently used until no more than this is left.",
    ),
]
OlderThan = Annotated[
    float | None,
    typer.Option(
        parser=parse_duration,
        metavar="TIME",
        show_default="never",
        help="Remove what has not been used for this long: 30d, 12h.",
    ),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Keep this in any case; may be repeated."),
]


def collect_garbage(
    store: StoreFolder,
    keep_bytes: KeepBytes = None,
    older_than: OlderThan = None,
    keep: Keep = None,
    dry_run: DryRun = False,
    as_json: StoreAsJson = False,
) -> None:
    """Remove what nobody uses, the least recently used first.

    What is being built, or is on record as used, stays. Without a limit only useless files go:
    those of builds that died, and what such builds had locked.

    Example: llmjp store gc --store ~/llmjp-store --keep-bytes 500G
    """
    from llmjp_builder.store.gc import CollectionPolicy, collect_garbage

    policy = CollectionPolicy(
        keep_bytes=keep_bytes, older_than_s=older_than, keep=frozenset(keep or ())
    )
    now = time.time()
    collected = collect_garbage(store, policy, dry_run=dry_run, now=now)
    _report(store, collected, now, dry_run=dry_run, as_json=as_json)
    if keep_bytes is not None and collected.bytes_left > keep_bytes and not as_json:
        typer.echo(f"more than {format_bytes(keep_bytes)} left: all of it is in use", err=True)


def remove_from_store(
    store: StoreFolder,
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Names as in `llmjp store ls --all`.")
    ],
    after_build: Annotated[
        bool,
        typer.Option(
            "--after-build",
            help="Also remove what was built within the last hour, which otherwise stays for its "
            "user to claim.",
        ),
    ] = False,
    dry_run: DryRun = False,
    as_json: StoreAsJson = False,
) -> None:
    """Remove artefacts and other things by name, unless they are being built or used.

    A name that does not exist is not an error: the operator's Jobs may run twice.

    Example: llmjp store remove --store ~/llmjp-store 3f9c0a1b2c3d4e5f6a7b
    """
    from llmjp_builder.store.artefacts import BUILDER
    from llmjp_builder.store.gc import CollectionPolicy, collect_garbage

    disregard = frozenset({BUILDER} if after_build else ())
    now = time.time()
    policy = CollectionPolicy(names=frozenset(names), disregard=disregard)
    collected = collect_garbage(store, policy, dry_run=dry_run, now=now)
    known = {item.name for item in (*collected.removed, *collected.in_use)}
    missing = [name for name in dict.fromkeys(names) if name not in known]
    _report(store, collected, now, dry_run=dry_run, as_json=as_json, missing=missing)


def check_store(
    store: StoreFolder,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Artefacts or sources; all without a name."),
    ] = None,
    as_json: StoreAsJson = False,
) -> None:
    """Read artefacts and downloaded sources, and compare them with their SHA-256 checksums.

    Exits with 3 if anything is damaged; the next build that needs it makes it again.

    Example: llmjp store check --store ~/llmjp-store
    """
    from llmjp_builder.contracts.errors import BadArtefact
    from llmjp_builder.progress import Reporter
    from llmjp_builder.store.check import check_items
    from llmjp_cli.progress import open_reporter
    from llmjp_cli.tables.store_table import describe_item, print_checks

    with open_reporter() as report:
        found = list(check_items(store, names or (), Reporter(report), now=time.time()))
    if as_json:
        rows = [{**describe_item(store, one.item), "fault": one.fault} for one in found]
        typer.echo(json.dumps(rows, ensure_ascii=False))
    else:
        print_checks(found)
    if damaged := [one for one in found if one.fault is not None]:
        raise BadArtefact(f"{store}: {len(damaged)} of {len(found)} damaged: {damaged[0].fault}")


def _report(
    store: Path,
    collected: CollectionResult,
    now: float,
    *,
    dry_run: bool,
    as_json: bool,
    missing: list[str] | None = None,
) -> None:
    """Print what was removed, and what was not."""
    from llmjp_cli.tables.store_table import describe_items, print_removed

    if as_json:
        document = {
            "removed": describe_items(store, collected.removed),
            "in_use": describe_items(store, collected.in_use),
            "bytes_left": collected.bytes_left,
            **({} if missing is None else {"not_there": missing}),
        }
        typer.echo(json.dumps(document, ensure_ascii=False))
        return
    print_removed(collected, now, dry_run=dry_run)
    for name in missing or ():
        typer.echo(f"not there: {name}", err=True)
