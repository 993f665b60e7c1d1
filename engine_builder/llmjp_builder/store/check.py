"""Verification of a store: every byte is read and compared with the recorded SHA-256."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import BadArtefact, BuilderError
from llmjp_builder.contracts.spec import Step
from llmjp_builder.store.downloads import SOURCE_NAME, ResolvedSource
from llmjp_builder.store.gc import ItemKind, StoreItem, list_items
from llmjp_builder.store.hashing import hash_files
from llmjp_builder.store.store import Store, check_artefact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from llmjp_builder.progress import Reporter


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Result of verifying one item."""

    item: StoreItem
    fault: str | None
    """Description of the damage; None if the item is intact."""


def check_items(
    root: Path, names: Iterable[str], reporter: Reporter, *, now: float
) -> Iterator[CheckResult]:
    """Verify artefacts and downloaded sources one by one; none is collected meanwhile.

    Args:
        root: the store's folder; where it is read-only, nothing prevents a collection.
        names: of the items to verify; none for all.
        reporter: receives the progress.
        now: the present.

    Raises:
        BadArtefact: there is nothing of such a name.
    """
    found = {
        item.name: item
        for item in list_items(root, now)
        if item.kind in {ItemKind.ARTEFACT, ItemKind.SOURCE}
    }
    wanted = list(names) or list(found)
    if absent := [name for name in wanted if name not in found]:
        raise BadArtefact(f"{root}: no artefact or source {absent[0]}; see llmjp store ls")
    for name in wanted:
        item = found[name]
        reporter.begin(Step.PUBLISH, item.size, f"verifying {name}")
        yield CheckResult(item, _find_fault(root, item, reporter.add))
        reporter.end()


def _find_fault(root: Path, item: StoreItem, on_bytes: Callable[[int], None]) -> str | None:
    check = check_artefact if item.kind is ItemKind.ARTEFACT else _check_source
    try:
        with Store(root).in_use(item.name):
            check(item.path, on_bytes)
    except BadArtefact as exc:
        return str(exc)
    except BuilderError as exc:
        return f"cannot be read: {exc}"
    return None


def _check_source(path: Path, on_bytes: Callable[[int], None]) -> None:
    try:
        said = ResolvedSource.from_json(json.loads((path / SOURCE_NAME).read_bytes()))
        found = hash_files(path, said.files, on_bytes)
    except (OSError, ValueError, RecursionError, BuilderError) as exc:
        raise BadArtefact(f"{path}: {exc}") from exc
    for name, record in said.files.items():
        if found[name] != record:
            raise BadArtefact(f"{path / name}: its contents are not what was downloaded")
