"""Which artefact is deployed, and which one answers."""

from __future__ import annotations

from typing import Any

import pytest

from llmjp_operator.api import Model
from llmjp_operator.decide.rollout import active_key, became_ready, choice, served
from llmjp_operator.observe.store_record import StoreRecord
from tests.operator.scenes import a_deployment, a_model, an_artefact, facts, serving_pod

OLD, NEW = "o" * 20, "n" * 20
OLD_MODEL = a_model({"engine": {"backend": "torch", "maxSeqLen": 256}})


def record(*keys: str, history: tuple[str, ...] = (OLD,)) -> StoreRecord:
    return StoreRecord(
        artefacts={f"request-{key}": an_artefact(key) for key in keys},
        history={"a": tuple(served(OLD_MODEL, key) for key in history)},
    )


def a_choice(model: Model | None = None, target: str = "", **values: Any) -> Any:
    pods = values.pop("pods_of_target", "")
    known = values.pop("record", record(OLD, NEW))
    of = model or a_model()
    built = an_artefact(target) if target else None
    return choice(of, facts(of, **values), known, built, pods_of_target=pods)


def test_nothing_is_deployed_before_there_is_something() -> None:
    assert a_choice() is None


def test_the_first_artefact() -> None:
    found = a_choice(target=NEW, record=StoreRecord())
    assert (found.built.key, found.rolled_back) == (NEW, False)


def test_meanwhile_what_served_last_is_served_as_it_was() -> None:
    model = a_model({"serving": {"replicas": 5}})
    found = a_choice(model, deployment=a_deployment())
    assert found.built.key == OLD
    assert found.model.spec.engine == OLD_MODEL.spec.engine
    assert found.model.spec.serving.replicas == 5, "settings of serving are today's"


def test_meanwhile_with_nothing_left_of_what_served() -> None:
    assert a_choice(deployment=a_deployment(), record=record(NEW)) is None


def test_the_newest_of_what_served_and_is_there() -> None:
    known = record(OLD, NEW, history=(OLD, NEW, "x" * 20))
    assert a_choice(deployment=a_deployment(), record=known).built.key == NEW


NO_SURGE = {"serving": {"maxSurge": 0}}


@pytest.mark.parametrize(
    "live",
    [
        a_deployment(pods="new", stalled="late"),
        a_deployment(pods="old", failed_rollout="new"),
    ],
    ids=["stalled now", "stalled before"],
)
def test_without_surge_pods_that_do_not_start_are_taken_back(live: Any) -> None:
    found = a_choice(a_model(NO_SURGE), NEW, deployment=live, pods_of_target="new")
    assert (found.built.key, found.failed_rollout, found.rolled_back) == (OLD, "new", True)


@pytest.mark.parametrize(
    ("changes", "live"),
    [
        ({}, a_deployment(pods="new", stalled="late")),
        (NO_SURGE, a_deployment(pods="old", stalled="late")),
        (NO_SURGE, a_deployment(pods="old", failed_rollout="other")),
        (NO_SURGE, None),
    ],
    ids=["surge", "others stalled", "others failed", "first"],
)
def test_otherwise_what_is_asked_for_is_tried(changes: Any, live: Any) -> None:
    found = a_choice(a_model(changes), NEW, deployment=live, pods_of_target="new")
    assert (found.built.key, found.rolled_back) == (NEW, False)


def test_what_does_not_start_is_not_taken_back_to_itself() -> None:
    model = a_model(NO_SURGE)
    known = StoreRecord(artefacts={"r": an_artefact(NEW)}, history={"a": (served(model, NEW),)})
    live = a_deployment(pods="new", stalled="late")
    found = a_choice(model, NEW, deployment=live, pods_of_target="new", record=known)
    assert (found.built.key, found.rolled_back) == (NEW, False)


@pytest.mark.parametrize(
    ("pods", "live", "active"),
    [
        ((), None, None),
        ((serving_pod(NEW, ready=False),), NEW, None),
        ((serving_pod(OLD), serving_pod(NEW, "t", ready=False)), NEW, OLD),
        ((serving_pod(OLD), serving_pod(NEW, "t")), NEW, OLD),
        ((serving_pod(NEW),), NEW, NEW),
        ((serving_pod("x" * 20), serving_pod("y" * 20, "t")), NEW, "x" * 20),
        ((serving_pod(OLD, model="b"),), OLD, None),
    ],
    ids=["none", "starting", "beside", "changing", "changed", "unknown", "another model"],
)
def test_what_answers(pods: Any, live: str | None, active: str | None) -> None:
    model = a_model()
    deployment = None if live is None else a_deployment(key=live)
    found = active_key(facts(model, pods=pods, deployment=deployment), record(OLD, NEW), model)
    assert found == active


@pytest.mark.parametrize(
    ("live", "ready"),
    [
        (None, False),
        (a_deployment(pods="p"), True),
        (a_deployment(pods="other"), False),
        (a_deployment(pods="p", updated=0), False),
        (a_deployment(pods="p", replicas=2), False),
        (a_deployment(pods="p", observed=False), False),
        (a_deployment(pods="p", wanted=0, replicas=0, updated=0, available=0), False),
    ],
    ids=["none", "ready", "other pods", "not updated", "old ones left", "not seen", "to zero"],
)
def test_when_a_rollout_is_done(live: Any, ready: bool) -> None:
    assert became_ready(live, "p") is ready
