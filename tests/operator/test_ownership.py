"""Nobody else's objects are touched, whatever they are called and whatever their labels say.

Every object that a model comes to have is tried, as the operator itself makes it: a foreign one has
the same kind, name, labels and content, and lacks only the proof that it is ours.
"""

from __future__ import annotations

from typing import Any

import pytest

from llmjp_operator.api import Phase
from llmjp_operator.names import KIND, OWNER, make_headless_name, make_owner_id
from llmjp_operator.observe.snapshot import ObjectRef
from tests.operator.fake_workloads import only
from tests.operator.model_bodies import Object
from tests.operator.simulation import Simulation

NOT_MADE = {KIND, "Pod"}
"""Kinds in the simulation that the operator does not make."""


def serve() -> Simulation:
    simulation = Simulation()
    simulation.settle()
    assert simulation.phase == Phase.SERVING
    return simulation


def list_made(simulation: Simulation) -> dict[ObjectRef, Object]:
    """Return everything that was made for a model, its finished Jobs included."""
    return {ref: body for ref, body in simulation.objects.items() if ref.kind not in NOT_MADE}


MADE = list_made(serve())


def as_foreign(body: Object) -> Object:
    """Return the same object as somebody else would have made it."""
    ours = body["metadata"]
    notes = {k: v for k, v in (ours.get("annotations") or {}).items() if k != OWNER}
    metadata = {"name": ours["name"], "labels": ours["labels"], "annotations": notes}
    rest = {k: v for k, v in body.items() if k not in {"metadata", "status"}}
    return {**rest, "metadata": metadata}


def known_by(body: Object) -> Any:
    """Return everything of an object that its owner cares about."""
    parts = ("uid", "labels", "annotations", "ownerReferences", "managedFields")
    rest = {k: v for k, v in body.items() if k not in {"metadata", "status"}}
    return {**rest, "metadata": {k: body["metadata"].get(k) for k in parts}}


def delete_model(simulation: Simulation, name: str = "a") -> None:
    simulation.server.discard(ObjectRef(KIND, name))


@pytest.mark.parametrize("ref", sorted(MADE), ids=str)
def test_an_object_that_was_there_first_is_left_alone(ref: ObjectRef) -> None:
    simulation = Simulation()
    theirs = simulation.server.put(as_foreign(MADE[ref]))
    simulation.run_for(120)
    assert simulation.phase == Phase.BLOCKED
    assert simulation.reason("Ready") == "NameTaken"
    assert f"{ref.kind} {ref.name} in namespace ns" in simulation.message("Stalled")
    assert known_by(simulation.objects[ref]) == known_by(theirs)
    simulation.server.discard(ref)
    simulation.run_for(120)
    assert simulation.phase == Phase.SERVING


@pytest.mark.parametrize("ref", sorted(MADE), ids=str)
def test_it_outlives_the_model(ref: ObjectRef) -> None:
    simulation = Simulation()
    theirs = simulation.server.put(as_foreign(MADE[ref]))
    simulation.run_for(60)
    delete_model(simulation)
    simulation.run_for(60)
    assert known_by(simulation.objects[ref]) == known_by(theirs)


@pytest.mark.parametrize("ref", sorted(MADE), ids=str)
def test_an_object_that_appears_before_the_watch_tells_is_left_alone(ref: ObjectRef) -> None:
    simulation = Simulation(script=only("resolve", {"phase": "Running"}))
    simulation.watches_are_late = True
    theirs = simulation.server.put(as_foreign(MADE[ref]))
    for _ in range(5):
        simulation.step()
    assert known_by(simulation.objects[ref]) == known_by(theirs)


LASTING = sorted(ref for ref in MADE if ref.kind not in {"ControllerRevision", "Job"})
"""What is made again if it is gone; a revision gets another name with other content."""


@pytest.mark.parametrize("ref", LASTING, ids=str)
@pytest.mark.parametrize("seen", [True, False], ids=["seen", "while the operator was down"])
def test_an_object_in_place_of_ours_is_left_alone(ref: ObjectRef, seen: bool) -> None:
    simulation = serve()
    simulation.server.discard(ref)
    theirs = simulation.server.put(as_foreign(MADE[ref]))
    if not seen:
        simulation.restart()
    simulation.edit({"serving": {"maxQueue": 7}})
    simulation.run_for(120)
    assert known_by(simulation.objects[ref]) == known_by(theirs)
    assert simulation.reason("Ready") == "NameTaken"
    simulation.server.discard(ref)
    simulation.run_for(240)
    assert simulation.phase == Phase.SERVING


def test_what_serves_goes_on_while_a_name_is_taken() -> None:
    simulation = serve()
    budget = ObjectRef("PodDisruptionBudget", "a")
    others = {ref: body for ref, body in list_made(simulation).items() if ref != budget}
    simulation.server.discard(budget)
    simulation.server.put(as_foreign(MADE[budget]))
    simulation.run_for(120)
    assert simulation.phase == Phase.DEGRADED
    assert simulation.status.ready_replicas == 1
    assert {ref: simulation.objects[ref] for ref in others} == others


def test_an_edit_lets_names_be_tried_again() -> None:
    """The taken name may be one that the edited model does not want."""
    resolve = next(ref for ref in MADE if "-resolve-" in ref.name)
    simulation = Simulation()
    simulation.server.put(as_foreign(MADE[resolve]))
    simulation.run_for(60)
    assert simulation.reason("Ready") == "NameTaken"
    simulation.edit({"source": {"huggingFace": {"revision": "v2"}}})
    simulation.run_for(120)
    assert simulation.phase == Phase.SERVING


NAMES = ("a", "a-headless", "a-build", "a-store", "a-resolve", "default", "llmjp", "ljm-build")


def test_names_of_models_never_collide() -> None:
    simulation = Simulation()
    account: Object = {"kind": "ServiceAccount", "metadata": {"name": "default"}}
    theirs = simulation.server.put({"apiVersion": "v1", **account})
    for name in NAMES[1:]:
        simulation.edit(name=name)
    simulation.settle(2000)
    assert {name: str(simulation.status_of(name).phase) for name in NAMES} == dict.fromkeys(
        NAMES, Phase.SERVING
    )
    assert simulation.objects[ObjectRef("ServiceAccount", "default")] == theirs
    made = list_made(simulation)
    assert len([ref for ref in made if ref.kind == "Service"]) == 2 * len(NAMES)
    assert len([ref for ref in made if ref.kind == "NetworkPolicy"]) == 2 * len(NAMES)


def test_a_helper_is_named_as_no_model_can_be() -> None:
    longest = "m" * 46
    for name in ("m", "m-headless", longest):
        assert 46 < len(make_headless_name(name)) <= 63
    assert len({make_headless_name(name) for name in ("m", "m-headless", longest)}) == 3


# What outlives a model

RETAIN: Object = {"storage": {"onDelete": "Retain"}}
CLAIM = ObjectRef("PersistentVolumeClaim", "a-store")


def retained() -> Simulation:
    simulation = Simulation(RETAIN)
    simulation.settle()
    delete_model(simulation)
    simulation.run_for(10)
    assert CLAIM in simulation.objects
    return simulation


def test_a_retained_claim_is_the_new_models_of_the_same_name() -> None:
    simulation = retained()
    uid = simulation.objects[CLAIM]["metadata"]["uid"]
    simulation.edit(RETAIN)
    simulation.settle()
    assert simulation.phase == Phase.SERVING
    assert simulation.objects[CLAIM]["metadata"]["uid"] == uid


def test_a_claim_that_says_to_be_anothers_is_not_adopted() -> None:
    simulation = retained()
    body = simulation.objects[CLAIM]
    moved = {"serving.llmjp.dev/owner": make_owner_id("elsewhere", "a")}
    theirs = {**body, "metadata": {**body["metadata"], "annotations": moved}}
    simulation.server.discard(CLAIM)
    simulation.server.put(theirs)
    simulation.edit(RETAIN)
    simulation.run_for(60)
    assert simulation.reason("Ready") == "NameTaken"


def test_what_is_about_to_be_collected_is_waited_for() -> None:
    """A model that is made again at once meets the objects of the one before."""
    simulation = serve()
    service = ObjectRef("Service", "a")
    body = simulation.objects[service]
    delete_model(simulation)
    simulation.edit()
    gone: Object = {"kind": KIND, "name": "a", "uid": "uid-gone"}
    before = simulation.server.put(
        {
            **as_foreign(body),
            "metadata": {**as_foreign(body)["metadata"], "ownerReferences": [gone]},
        }
    )
    simulation.run_for(60)
    assert simulation.reason("Ready") != "NameTaken"
    assert known_by(simulation.objects[service]) == known_by(before)
    simulation.server.discard(service)
    simulation.run_for(120)
    assert simulation.phase == Phase.SERVING
