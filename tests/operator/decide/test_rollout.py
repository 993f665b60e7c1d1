"""Which artefact is deployed, and which one answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llmjp_operator.api import Model
from llmjp_operator.decide.rollout import (
    decide_candidate,
    decide_rollout,
    find_active_key,
    is_rolled_out,
    note_progress,
    to_served_artefact,
)
from llmjp_operator.decisions import Decision
from llmjp_operator.observe.revision import Revision
from llmjp_operator.observe.store_record import StoreRecord
from llmjp_operator.render.serving import make_revision
from llmjp_operator.settings import Images
from tests.operator.factories import (
    SETTINGS,
    make_artefact,
    make_deployment,
    make_model,
    make_serving_pod,
    make_snapshot,
)

OLD, NEW = "o" * 20, "n" * 20
NO_SURGE = {"serving": {"maxSurge": 0}}


def revision(model: Model, key: str, number: int, **values: Any) -> Revision:
    """Return the revision of a model that an artefact makes, with what is known of it."""
    decision = Decision(record=StoreRecord(), artefact=make_artefact(key))
    candidate = decide_candidate(model, decision, SETTINGS)
    assert candidate is not None
    made = make_revision(candidate, SETTINGS, single_node=False, number=number)
    return replace(made, pods=key, **values)


def decided(model: Model | None = None, target: str = "", **values: Any) -> Any:
    """Return the rollout, where pods are known by their artefact."""
    of = model or make_model()
    settings = values.pop("settings", SETTINGS)
    record = values.pop("record", StoreRecord())
    decision = Decision(record=record, artefact=make_artefact(target) if target else None)
    candidate = decide_candidate(of, decision, settings)
    snapshot = make_snapshot(of, **values)
    return decide_rollout(of, snapshot, decision, candidate, settings=settings)


def test_nothing_is_deployed_before_there_is_something() -> None:
    assert decided() is None


def test_the_first_artefact_becomes_a_revision() -> None:
    found = decided(target=NEW)
    assert (found.revision, found.key, found.rolled_back) == (None, NEW, False)


def test_meanwhile_what_serves_goes_on() -> None:
    served = revision(make_model(), OLD, 1, served=True)
    edited = make_model({"engine": {"backend": "torch", "maxSeqLen": 64}})
    found = decided(edited, deployment=make_deployment(pods=OLD), revisions=(served,))
    assert found.revision == served


def test_meanwhile_what_nobody_knows_is_left_alone() -> None:
    assert decided(deployment=make_deployment(pods=OLD)) is None


def test_meanwhile_what_never_became_ready_makes_room_for_what_served() -> None:
    served = revision(make_model(), OLD, 1, served=True)
    unready = revision(make_model({"serving": {"maxQueue": 7}}), NEW, 2)
    edited = make_model({"serving": {"maxQueue": 8}})
    live = make_deployment(pods=NEW)
    assert decided(edited, deployment=live, revisions=(served, unready)).revision == served
    as_before = make_model({"serving": {"maxQueue": 7}})
    found = decided(as_before, deployment=live, revisions=(served, unready))
    assert found.revision == unready, "only the record of its artefact may be lost"


def test_an_edit_back_is_the_revision_that_was() -> None:
    served = revision(make_model(), OLD, 1, served=True)
    other = revision(make_model(), NEW, 2, served=True)
    found = decided(target=OLD, deployment=make_deployment(pods=NEW), revisions=(served, other))
    assert found.revision == served
    assert note_progress(served, found, make_snapshot(make_model(), revisions=(served, other))) == (
        replace(served, number=3)
    )


FAILS = (make_serving_pod(NEW, ready=False),)
PULLS = (make_serving_pod(NEW, ready=False, phase="Pending", waiting="ContainerCreating"),)
LATE = make_deployment(pods=NEW, stalled="late")


def test_without_surge_pods_that_do_not_start_are_rolled_back() -> None:
    model = make_model(NO_SURGE)
    old, new = revision(model, OLD, 1, served=True), revision(model, NEW, 2)
    found = decided(model, NEW, deployment=LATE, revisions=(old, new), pods=FAILS)
    assert (found.revision, found.failed, found.rolled_back) == (old, new, True)
    failed = replace(new, failed="")
    live = make_deployment(pods=OLD)
    again = decided(model, NEW, deployment=live, revisions=(old, failed))
    assert (again.revision, again.rolled_back) == (old, True), "it is remembered"
    retried = replace(model, retry="now")
    assert decided(retried, NEW, deployment=live, revisions=(old, failed)).revision == failed


@pytest.mark.parametrize(
    ("changes", "live", "pods"),
    [
        ({}, LATE, FAILS),
        (NO_SURGE, LATE, PULLS),
        (NO_SURGE, LATE, (*FAILS, *PULLS)),
        (NO_SURGE, LATE, ()),
        (NO_SURGE, replace(LATE, observed=False), FAILS),
        (NO_SURGE, make_deployment(pods=OLD, stalled="late"), FAILS),
        (NO_SURGE, None, ()),
    ],
    ids=[
        "surge",
        "slow pull",
        "slow pull beside an old pod",
        "no pod",
        "stale status",
        "others stalled",
        "first",
    ],
)
def test_otherwise_what_is_asked_for_is_tried(changes: Any, live: Any, pods: Any) -> None:
    model = make_model(changes)
    old, new = revision(model, OLD, 1, served=True), revision(model, NEW, 2)
    found = decided(model, NEW, deployment=live, revisions=(old, new), pods=pods)
    assert (found.revision, found.rolled_back) == (new, False)


def test_what_does_not_start_is_not_rolled_back_to_itself() -> None:
    model = make_model(NO_SURGE)
    new = revision(model, NEW, 1)
    found = decided(model, NEW, deployment=LATE, revisions=(new,), pods=FAILS)
    assert (found.revision, found.rolled_back) == (new, False)


@pytest.mark.parametrize(
    ("policy", "installed", "kept"),
    [(None, "Keep", True), ("Keep", "Roll", True), (None, "Roll", False), ("Roll", "Keep", False)],
)
def test_another_image_rolls_only_if_somebody_asks(policy: Any, installed: Any, kept: bool) -> None:
    model = make_model({"serving": {"upgradePolicy": policy}} if policy else None)
    served = revision(model, OLD, 1, served=True)
    images = {"cpu": Images(builder="b", runtime="runtime:newer")}
    settings = replace(SETTINGS, images=images, upgrade_policy=installed)
    live = make_deployment(pods=OLD)
    found = decided(model, OLD, deployment=live, revisions=(served,), settings=settings)
    assert (found.revision == served) == kept
    unready = replace(served, served=False)
    mended = decided(model, OLD, deployment=live, revisions=(unready,), settings=settings)
    assert mended.revision is None, "an image that was mended is tried"


def test_upgrades_wait_for_one_another_and_edits_for_nobody() -> None:
    model = make_model({"serving": {"upgradePolicy": "Roll"}})
    served = revision(model, OLD, 1, served=True)
    settings = replace(SETTINGS, images={"cpu": Images(builder="b", runtime="runtime:newer")})
    known = {"deployment": make_deployment(pods=OLD), "revisions": (served,), "settings": settings}
    waits = decided(model, OLD, upgrading=1, **known)
    assert (waits.revision, waits.queued) == (served, True)
    assert decided(model, OLD, upgrading=0, **known).revision is None
    assert not decided(model, NEW, upgrading=9, **known).queued


@pytest.mark.parametrize(
    ("pods", "live", "active"),
    [
        ((), None, None),
        ((make_serving_pod(NEW, ready=False),), NEW, None),
        ((make_serving_pod(OLD), make_serving_pod(NEW, "t", ready=False)), NEW, OLD),
        ((make_serving_pod(OLD), make_serving_pod(NEW, "t")), NEW, OLD),
        ((make_serving_pod(NEW),), NEW, NEW),
        ((make_serving_pod("x" * 20), make_serving_pod("y" * 20, "t")), NEW, "x" * 20),
        ((make_serving_pod(OLD, model="b"),), OLD, None),
    ],
    ids=["none", "starting", "beside", "changing", "changed", "unknown", "another model"],
)
def test_the_active_key_is_that_of_the_pods_that_answer(
    pods: Any, live: str | None, active: str | None
) -> None:
    model = make_model()
    deployment = None if live is None else make_deployment(key=live)
    served = tuple(to_served_artefact(model, key) for key in (OLD,))
    known = StoreRecord(
        artefacts={key: make_artefact(key) for key in (OLD, NEW)}, history={"a": served}
    )
    found = find_active_key(model, make_snapshot(model, pods=pods, deployment=deployment), known)
    assert found == active


@pytest.mark.parametrize(
    ("live", "ready"),
    [
        (None, False),
        (make_deployment(pods="p"), True),
        (make_deployment(pods="other"), False),
        (make_deployment(pods="p", updated=0), False),
        (make_deployment(pods="p", replicas=2), False),
        (make_deployment(pods="p", observed=False), False),
        (make_deployment(pods="p", wanted=0, replicas=0, updated=0, available=0), False),
    ],
    ids=["none", "ready", "other pods", "not updated", "old ones left", "not seen", "to zero"],
)
def test_when_a_rollout_is_done(live: Any, ready: bool) -> None:
    assert is_rolled_out(live, "p") is ready
