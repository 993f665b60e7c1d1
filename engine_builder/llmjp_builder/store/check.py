"""Whether what is in a store is still what it was: every byte is read and compared."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import BadArtefact, BuilderError
from llmjp_builder.contracts.spec import Step
from llmjp_builder.store.downloads import SOURCE_NAME, ResolvedSource
from llmjp_builder.store.gc import Item, What, contents
from llmjp_builder.store.hashing import hash_files
from llmjp_builder.store.store import Store, check_artefact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from llmjp_builder.progress import Reporter


@dataclass(frozen=True, slots=True)
class Inspected:
    """One thing of the store, read through."""

    item: Item
    fault: str | None
    """What is wrong with it; None if nothing is."""


def inspected(
    root: Path, names: Iterable[str], reporter: Reporter, *, now: float
) -> Iterator[Inspected]:
    """Artefacts and downloaded sources, one after the other; kept from collection meanwhile.

    Args:
        root: the store's folder; it may be read-only, then nothing is kept from collection.
        names: of those wanted; none for all.
        reporter: hears of every byte.
        now: the present.

    Raises:
        BadArtefact: there is nothing of such a name.
    """
    found = {
        item.name: item for item in contents(root, now) if item.what in {What.ARTEFACT, What.SOURCE}
    }
    wanted = list(names) or list(found)
    if absent := [name for name in wanted if name not in found]:
        raise BadArtefact(f"{root}: no artefact or source {absent[0]}; see llmjp store ls")
    for name in wanted:
        item = found[name]
        reporter.begin(Step.PUBLISH, item.size, f"verifying {name}")
        yield Inspected(item, _fault(root, item, reporter.add))
        reporter.end()


def _fault(root: Path, item: Item, on_bytes: Callable[[int], None]) -> str | None:
    check = check_artefact if item.what is What.ARTEFACT else _check_source
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
