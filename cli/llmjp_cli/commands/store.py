"""`llmjp store ls|gc|remove|check`. Nothing heavy at import."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from llmjp_builder.store.gc import Collected, Item

StorePath = Annotated[Path, typer.Option(help="The store's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, sizes in bytes, times since 1970.")]

_UNITS = {"": 1, **{f"{p}": 1000**i for i, p in enumerate("KMGT", 1)}}
_UNITS |= {f"{p}i": 1024**i for i, p in enumerate("KMGT", 1)}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def size(text: str) -> int:
    """Bytes: `500G`, `1.5Ti`, `1000`.

    Raises:
        typer.BadParameter: anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?", text)
    if match is None:
        raise typer.BadParameter(f"{text!r}: expected a size such as 500G or 1.5Ti")
    return int(float(match[1]) * _UNITS[match[2] or ""])


def duration(text: str) -> float:
    """Seconds: `30d`, `12h`, `90m`.

    Raises:
        typer.BadParameter: anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if match is None:
        raise typer.BadParameter(f"{text!r}: expected a time such as 30d, 12h or 90m")
    return float(match[1]) * _SECONDS[match[2]]


def store_ls(
    store: StorePath,
    every: Annotated[
        bool, typer.Option("--all", "-a", help="Also sources, downloads, caches and logs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List a store's artefacts: what they are, how large, when used last, and by whom now.

    Example: llmjp store ls --store ~/llmjp-store
    """
    from llmjp_builder.store.gc import What, contents

    now = time.time()
    items = [item for item in contents(store, now) if every or item.what is What.ARTEFACT]
    if as_json:
        typer.echo(json.dumps([_as_json(store, item) for item in items], ensure_ascii=False))
        return
    rows = [
        [item.name, *_cells(store, item), _bytes(item.size), _ago(item, now), _users(item)]
        for item in items
    ]
    head = ["NAME", "KIND", "MODEL", "LAYOUT", "WEIGHTS", "SIZE", "LAST USE", "IN USE BY"]
    _table(head, rows)


def store_gc(
    store: StorePath,
    keep_bytes: Annotated[
        int | None,
        typer.Option(
            parser=size,
            metavar="SIZE",
            show_default="no limit",
            help="Remove what was not used for longest until no more than this is left.",
        ),
    ] = None,
    older_than: Annotated[
        float | None,
        typer.Option(
            parser=duration,
            metavar="TIME",
            show_default="never",
            help="Remove whatever was not used for so long: 30d, 12h.",
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Keep this, whoever uses it; may be repeated."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what nobody uses, the least recently used first.

    Nothing goes that is being built, or that somebody is on record as using. Without a limit only
    what is of no use to anybody goes: work of builds that died, and whatever they locked.

    Example: llmjp store gc --store ~/llmjp-store --keep-bytes 500G
    """
    from llmjp_builder.store.gc import Policy, collect

    policy = Policy(keep_bytes=keep_bytes, older_than_s=older_than, keep=frozenset(keep or ()))
    now = time.time()
    done = collect(store, policy, dry_run=dry_run, now=now)
    _tell(store, done, now, dry_run=dry_run, as_json=as_json)
    if keep_bytes is not None and done.bytes_left > keep_bytes and not as_json:
        typer.echo(f"more than {_bytes(keep_bytes)} is left: all of it is in use", err=True)


def store_remove(
    store: StorePath,
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="As `llmjp store ls --all` has them.")
    ],
    after_build: Annotated[
        bool,
        typer.Option(
            "--after-build",
            help=(
                "Whoever had them built wants them no longer: do not keep them for the hour that "
                "a build gives its user to say so."
            ),
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove artefacts and other things by name, unless somebody builds or uses them.

    What is not there is no error: the operator's Jobs may run twice.

    Example: llmjp store remove --store ~/llmjp-store 3f9c0a1b2c3d4e5f6a7b
    """
    from llmjp_builder.store.artefacts import BUILDER
    from llmjp_builder.store.gc import Policy, collect

    disregard = frozenset({BUILDER} if after_build else ())
    now = time.time()
    policy = Policy(names=frozenset(names), disregard=disregard)
    done = collect(store, policy, dry_run=dry_run, now=now)
    known = {item.name for item in (*done.removed, *done.in_use)}
    absent = [name for name in dict.fromkeys(names) if name not in known]
    _tell(store, done, now, dry_run=dry_run, as_json=as_json, absent=absent)


def _tell(
    store: Path,
    done: Collected,
    now: float,
    *,
    dry_run: bool,
    as_json: bool,
    absent: list[str] | None = None,
) -> None:
    """What a collection did."""
    if as_json:
        document = {
            "removed": [_as_json(store, item) for item in done.removed],
            "in_use": [_as_json(store, item) for item in done.in_use],
            "bytes_left": done.bytes_left,
            **({} if absent is None else {"not_there": absent}),
        }
        typer.echo(json.dumps(document, ensure_ascii=False))
        return
    rows = [
        [item.name, item.what.value, _bytes(item.size), _ago(item, now)] for item in done.removed
    ]
    if rows:
        _table(["WOULD GO" if dry_run else "REMOVED", "KIND", "SIZE", "LAST USE"], rows)
    freed = _bytes(sum(item.size for item in done.removed))
    typer.echo(f"{freed} {'would be ' if dry_run else ''}freed, {_bytes(done.bytes_left)} left")
    for item in done.in_use:
        why = _users(item) or "a process builds or reads it, or you said to keep it"
        typer.echo(f"kept, in use: {item.name}  {why}", err=True)
    for name in absent or ():
        typer.echo(f"not there: {name}", err=True)


def store_check(
    store: StorePath,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Of artefacts or sources.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read artefacts and downloaded sources through, and compare them with their SHA-256 sums.

    Ends with exit code 3 if something is damaged; the next build that needs it makes it again.

    Example: llmjp store check --store ~/llmjp-store
    """
    from llmjp_builder.contracts.errors import BadArtefact
    from llmjp_builder.progress import Reporter
    from llmjp_builder.store.check import inspected
    from llmjp_cli.progress import reporter

    with reporter() as show:
        found = list(inspected(store, names or (), Reporter(show), now=time.time()))
    if as_json:
        rows = [{**_as_json(store, one.item), "fault": one.fault} for one in found]
        typer.echo(json.dumps(rows, ensure_ascii=False))
    else:
        table = [
            [one.item.name, one.item.what.value, _bytes(one.item.size), one.fault or "ok"]
            for one in found
        ]
        _table(["NAME", "KIND", "SIZE", "RESULT"], table)
    if damaged := [one for one in found if one.fault is not None]:
        raise BadArtefact(f"{store}: {len(damaged)} of {len(found)} damaged: {damaged[0].fault}")


def _described(store: Path, item: Item) -> dict[str, Any]:
    """What is known of an item besides its files: from its manifest, and from who built it."""
    from llmjp_builder.contracts.errors import BadArtefact
    from llmjp_builder.contracts.spec import Manifest
    from llmjp_builder.store.gc import What
    from llmjp_builder.store.leases import label_of

    about: dict[str, Any] = {"kind": item.what.value, "model": label_of(store, item.name)}
    if item.what is not What.ARTEFACT or not item.path.exists():
        return about
    try:
        found = Manifest.load(item.path)
    except BadArtefact as exc:
        return {**about, "kind": "damaged", "fault": str(exc)}
    return {
        **about,
        "kind": found.kind.value,
        "tensor_parallel": found.tensor_parallel,
        "pipeline_parallel": found.pipeline_parallel,
        "dtype": found.dtype,
        "quantization": found.inputs.quantization,
        "kv_cache": found.inputs.kv_cache,
        "checkpoint_key": found.checkpoint_key,
    }


def _cells(store: Path, item: Item) -> list[str]:
    """Kind, model, layout and type of the weights."""
    about = _described(store, item)
    row = [about["kind"], about["model"] or ""]
    if "dtype" not in about:
        return [*row, "", ""]
    weights = about["dtype"] if about["quantization"] == "none" else about["quantization"]
    return [*row, f"tp {about['tensor_parallel']} pp {about['pipeline_parallel']}", weights]


def _as_json(store: Path, item: Item) -> dict[str, Any]:
    about = {name: value for name, value in _described(store, item).items() if value is not None}
    return {
        "name": item.name,
        **about,
        "bytes": item.size,
        "last_use": round(item.last_use),
        "in_use_by": list(item.users),
    }


def _bytes(number: int) -> str:
    value, unit = float(number), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{number} B" if unit == "B" else f"{value:.1f} {unit}"


def _ago(item: Item, now: float) -> str:
    if item.users:
        return "now"
    seconds = max(0.0, now - item.last_use)
    for name, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {name} ago"
    return "just now"


def _users(item: Item) -> str:
    return ", ".join(item.users)


def _table(head: list[str], rows: list[list[str]]) -> None:
    """Columns as wide as they need to be; programs take --json."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
