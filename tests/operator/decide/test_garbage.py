"""Garbage collection: what goes with old artefacts, and what something still needs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmjp_builder.contracts.spec import Built, Kind, name_download
from llmjp_operator.api import Model
from llmjp_operator.decide.garbage import find_garbage
from llmjp_operator.observe.store_record import PinnedSource, ServedArtefact, StoreRecord
from tests.operator.factories import (
    FOUND,
    make_artefact,
    make_model,
    make_serving_pod,
    make_snapshot,
)

OLD, NEW = "a" * 20, "b" * 20
CHECKPOINT, DOWNLOAD = "c" * 20, name_download("e" * 20)


def engine(key: str, *made_from: str) -> Built:
    return make_artefact(key, kind=Kind.ENGINE, made_from=made_from)


def record(of: Model, *builts: Built) -> StoreRecord:
    """Return the record of a model that served them all, one after the other."""
    spec = of.spec
    history = tuple(
        ServedArtefact(
            key=built.key, engine=spec.engine, hardware=spec.hardware, runtime=spec.runtime
        )
        for built in builts
    )
    return StoreRecord(
        artefacts={f"request-{built.key}": built for built in builts}, history={of.name: history}
    )


KEEPS_ONE = make_model({"storage": {"size": "1Gi", "keepEngines": 1}})


@pytest.mark.parametrize(
    ("old", "new", "gone"),
    [
        pytest.param((), (), {OLD}, id="nothing else is there"),
        pytest.param(
            (DOWNLOAD, CHECKPOINT), (), {OLD, DOWNLOAD, CHECKPOINT}, id="all that it was made from"
        ),
        pytest.param(
            (DOWNLOAD, CHECKPOINT), (DOWNLOAD, "f" * 20), {OLD, CHECKPOINT}, id="one download"
        ),
        pytest.param((CHECKPOINT,), (CHECKPOINT,), {OLD}, id="one checkpoint"),
        pytest.param((NEW,), (), {OLD}, id="the checkpoint itself is served"),
    ],
)
def test_what_goes_with_an_old_engine(
    old: tuple[str, ...], new: tuple[str, ...], gone: set[str]
) -> None:
    found = record(KEEPS_ONE, engine(OLD, *old), engine(NEW, *new))
    assert find_garbage(make_snapshot(KEEPS_ONE, record=found), found) == tuple(sorted(gone))


def test_the_source_that_is_pinned_stays() -> None:
    """The next change of the engine needs no download."""
    found = record(KEEPS_ONE, engine(OLD, name_download(FOUND.digest)), engine(NEW))
    pinned = PinnedSource(asked="x", uid=KEEPS_ONE.uid, found=FOUND)
    found = replace(found, sources={KEEPS_ONE.name: pinned})
    assert find_garbage(make_snapshot(KEEPS_ONE, record=found), found) == (OLD,)


def test_what_a_pod_has_mounted_stays_with_all_of_it() -> None:
    found = record(KEEPS_ONE, engine(OLD, DOWNLOAD), engine(NEW))
    seen = make_snapshot(KEEPS_ONE, record=found, pods=(make_serving_pod(OLD),))
    assert find_garbage(seen, found) == ()


def test_another_model_of_the_store_may_need_it() -> None:
    other = make_model(
        {"storage": {"existingClaim": "a-store", "size": None, "keepEngines": 1}}, "b"
    )
    mine = record(KEEPS_ONE, engine(OLD, CHECKPOINT), engine(NEW))
    theirs = record(other, engine("d" * 20, CHECKPOINT))
    found = StoreRecord(
        artefacts={**mine.artefacts, **theirs.artefacts}, history={**mine.history, **theirs.history}
    )
    seen = make_snapshot(KEEPS_ONE, record=found, sharing=(KEEPS_ONE, other))
    assert find_garbage(seen, found) == (OLD,)
