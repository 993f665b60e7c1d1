"""Which artefact is deployed, and which one answers."""

from __future__ import annotations

from typing import Any

import pytest

from llmjp_operator.api import Model
from llmjp_operator.decide.rollout import (
    decide_candidate,
    decide_rollout,
    find_active_key,
    is_rolled_out,
    to_served_artefact,
)
from llmjp_operator.decisions import Decision
from llmjp_operator.observe.store_record import StoreRecord
from tests.operator.factories import (
    make_artefact,
    make_deployment,
    make_model,
    make_serving_pod,
    make_snapshot,
)

OLD, NEW = "o" * 20, "n" * 20
OLD_MODEL = make_model({"engine": {"backend": "torch", "maxSeqLen": 256}})


def record(*keys: str, history: tuple[str, ...] = (OLD,)) -> StoreRecord:
    return StoreRecord(
        artefacts={f"request-{key}": make_artefact(key) for key in keys},
        history={"a": tuple(to_served_artefact(OLD_MODEL, key) for key in history)},
    )


def decided(model: Model | None = None, target: str = "", **values: Any) -> Any:
    """The rollout, where the rendered pods of the target have a digest."""
    pods = values.pop("candidate_pods", "")
    known = values.pop("record", record(OLD, NEW))
    of = model or make_model()
    decision = Decision(record=known, artefact=make_artefact(target) if target else None)
    candidate = decide_candidate(of, decision)
    return decide_rollout(of, make_snapshot(of, **values), decision, candidate, candidate_pods=pods)


def test_nothing_is_deployed_before_there_is_something() -> None:
    assert decided() is None


def test_the_first_artefact_is_deployed() -> None:
    found = decided(target=NEW, record=StoreRecord())
    assert (found.artefact.key, found.rolled_back) == (NEW, False)


def test_meanwhile_what_served_last_is_served_as_it_was() -> None:
    model = make_model({"serving": {"replicas": 5}})
    found = decided(model, deployment=make_deployment())
    assert found.artefact.key == OLD
    assert found.model.spec.engine == OLD_MODEL.spec.engine
    assert found.model.spec.serving.replicas == 5, "settings of serving are today's"


def test_meanwhile_with_nothing_left_of_what_served() -> None:
    assert decided(deployment=make_deployment(), record=record(NEW)) is None


def test_the_newest_of_what_served_and_is_there() -> None:
    known = record(OLD, NEW, history=(OLD, NEW, "x" * 20))
    assert decided(deployment=make_deployment(), record=known).artefact.key == NEW


NO_SURGE = {"serving": {"maxSurge": 0}}


@pytest.mark.parametrize(
    "live",
    [
        make_deployment(pods="new", stalled="late"),
        make_deployment(pods="old", failed_rollout="new"),
    ],
    ids=["stalled now", "stalled before"],
)
def test_without_surge_pods_that_do_not_start_are_taken_back(live: Any) -> None:
    found = decided(make_model(NO_SURGE), NEW, deployment=live, candidate_pods="new")
    assert (found.artefact.key, found.failed_rollout, found.rolled_back) == (OLD, "new", True)


@pytest.mark.parametrize(
    ("changes", "live"),
    [
        ({}, make_deployment(pods="new", stalled="late")),
        (NO_SURGE, make_deployment(pods="old", stalled="late")),
        (NO_SURGE, make_deployment(pods="old", failed_rollout="other")),
        (NO_SURGE, None),
    ],
    ids=["surge", "others stalled", "others failed", "first"],
)
def test_otherwise_what_is_asked_for_is_tried(changes: Any, live: Any) -> None:
    found = decided(make_model(changes), NEW, deployment=live, candidate_pods="new")
    assert (found.artefact.key, found.rolled_back) == (NEW, False)


def test_what_does_not_start_is_not_taken_back_to_itself() -> None:
    model = make_model(NO_SURGE)
    known = StoreRecord(
        artefacts={"r": make_artefact(NEW)}, history={"a": (to_served_artefact(model, NEW),)}
    )
    live = make_deployment(pods="new", stalled="late")
    found = decided(model, NEW, deployment=live, candidate_pods="new", record=known)
    assert (found.artefact.key, found.rolled_back) == (NEW, False)


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
    found = find_active_key(
        model, make_snapshot(model, pods=pods, deployment=deployment), record(OLD, NEW)
    )
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
