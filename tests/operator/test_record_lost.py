"""Losing what the operator remembers changes nothing that serves; what was lost is found again."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from e2e.fake_kubelet import succeed
from llmjp_operator.api import Phase
from llmjp_operator.names import OWNER, make_record_name
from llmjp_operator.observe.snapshot import ObjectRef
from tests.operator.model_bodies import Object
from tests.operator.simulation import Simulation
from tests.operator.test_every_advice import BAD_MEMORY, pods_fail

RECORD = ObjectRef("ConfigMap", make_record_name("a-store"))
CLAIM = ObjectRef("PersistentVolumeClaim", "a-store")
SERVES = ("Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service")
"""Kinds of objects that clients and running pods depend on."""
NO_SURGE: Object = {"serving": {"maxSurge": 0}}
REBUILT: Object = {"engine": {"backend": "torch", "tensorParallel": 2, "maxSeqLen": 200}}
OTHER: Object = {**REBUILT, **NO_SURGE}


def serving() -> Simulation:
    simulation = Simulation()
    simulation.run_for(60)
    assert simulation.phase == Phase.SERVING
    return simulation


def rolled_back() -> Simulation:
    simulation = Simulation(NO_SURGE)
    simulation.run_for(60)
    simulation.workloads.script = pods_fail("200")
    simulation.edit(OTHER)
    simulation.run_for(400)
    assert simulation.reason("Progressing") == "RolledBack"
    return simulation


def stalled() -> Simulation:
    simulation = serving()
    simulation.workloads.script = pods_fail("99Ti")
    simulation.edit(BAD_MEMORY)
    simulation.run_for(400)
    assert simulation.reason("Progressing") == "RolloutStalled"
    return simulation


def change_entries(change: Callable[[Object], object]) -> Callable[[Simulation], None]:
    """Change every entry of the record, as another version or somebody's editor would."""

    def damage(simulation: Simulation) -> None:
        body = simulation.objects[RECORD]
        data = {
            name: text if name in {"claim", "schema"} else json.dumps(_change(text, change))
            for name, text in body["data"].items()
        }
        simulation.server.put({**body, "data": data})

    return damage


def _change(text: str, change: Callable[[Object], object]) -> object:
    value = json.loads(text)
    return [change(item) for item in value] if isinstance(value, list) else change(value)


def drop_first_field(value: Object) -> Object:
    return {name: value[name] for name in list(value)[1:]}


def delete(simulation: Simulation) -> None:
    simulation.server.discard(RECORD)


def empty(simulation: Simulation) -> None:
    simulation.server.put({**simulation.objects[RECORD], "data": {}})


def fill_with_garbage(simulation: Simulation) -> None:
    body = simulation.objects[RECORD]
    simulation.server.put({**body, "data": dict.fromkeys(body["data"], "{")})


LOST = {
    "deleted": delete,
    "emptied": empty,
    "garbage": fill_with_garbage,
    "fields missing": change_entries(drop_first_field),
    "other types": change_entries(lambda _: "text"),
}


def list_serving_objects(simulation: Simulation) -> dict[ObjectRef, Object]:
    return {
        ref: {k: v for k, v in body.items() if k != "status"}
        for ref, body in simulation.objects.items()
        if ref.kind in SERVES
    }


@pytest.mark.parametrize("jobs", [True, False], ids=["Jobs there", "Jobs gone"])
@pytest.mark.parametrize("damage", list(LOST))
@pytest.mark.parametrize("reach", [serving, rolled_back, stalled])
def test_what_serves_stays_as_it_is(
    reach: Callable[[], Simulation], damage: str, jobs: bool
) -> None:
    simulation = reach()
    before, phase = list_serving_objects(simulation), simulation.phase
    made = len(simulation.workloads.jobs)
    simulation.restart()
    if not jobs:
        for ref in [ref for ref in simulation.objects if ref.kind == "Job"]:
            simulation.server.discard(ref)
    LOST[damage](simulation)
    simulation.server.writes.clear()
    simulation.run_for(600)
    touched = [write for write in simulation.server.writes if write.split()[1] in SERVES]
    assert touched == []
    assert list_serving_objects(simulation) == before
    assert simulation.phase == phase
    assert len(simulation.workloads.jobs) - made <= 2, "a Job that pins, and one that finds"


@pytest.mark.parametrize("reach", [serving, stalled])
def test_what_serves_stays_with_its_revisions_lost_as_well(reach: Callable[[], Simulation]) -> None:
    simulation = reach()
    before, phase = list_serving_objects(simulation), simulation.phase
    for ref in [ref for ref in simulation.objects if ref.kind in {"ControllerRevision", "Job"}]:
        simulation.server.discard(ref)
    delete(simulation)
    simulation.restart()
    simulation.run_for(600)
    assert list_serving_objects(simulation) == before
    assert simulation.phase == phase


def test_scaling_to_zero_works_without_a_record() -> None:
    simulation = serving()
    simulation.workloads.script = lambda _pod: {"phase": "Running"}
    for ref in [ref for ref in simulation.objects if ref.kind == "Job"]:
        simulation.server.discard(ref)
    delete(simulation)
    simulation.edit({"serving": {"replicas": 0}})
    simulation.run_for(120)
    assert simulation.objects[ObjectRef("Deployment", "a")]["spec"]["replicas"] == 0


# Other versions of the operator


def test_fields_of_a_newer_version_are_ignored_and_kept() -> None:
    simulation = serving()
    change_entries(lambda value: {**value, "added": 1})(simulation)
    body = simulation.objects[RECORD]
    newer = {**body["data"], "schema": "7", "plan-a": '{"x":1}', "source-b": '{"other":1}'}
    simulation.server.put({**body, "data": newer})
    simulation.restart()
    simulation.server.writes.clear()
    simulation.run_for(60)
    assert simulation.server.writes == []
    simulation.edit(REBUILT)
    simulation.run_for(120)
    assert simulation.phase == Phase.SERVING
    data = simulation.objects[RECORD]["data"]
    assert data.keys() > newer.keys()
    changed = {name for name in newer if newer[name] != data[name]}
    assert changed == {"history-a"}, "what did not change has the text that it had"


def test_a_record_of_version_010_is_marked_once() -> None:
    simulation = serving()
    body = simulation.objects[RECORD]
    data = {k: v for k, v in body["data"].items() if k not in {"claim", "schema"}}
    applied = {**body, "data": data, "metadata": {**body["metadata"], "annotations": {}}}
    simulation.server._applied[RECORD] = {"llmjp-operator": applied}
    simulation.server.put(applied)
    simulation.server.writes.clear()
    simulation.restart()
    simulation.run_for(60)
    assert simulation.server.writes == [f"apply ConfigMap {RECORD.name}"]
    found = simulation.objects[RECORD]
    assert found["data"]["claim"] == simulation.objects[CLAIM]["metadata"]["uid"]
    assert found["metadata"]["annotations"][OWNER] == "ns/a-store"


def test_what_another_operator_recorded_is_read_before_it_is_written() -> None:
    simulation = serving()
    simulation.edit(REBUILT)
    simulation.step()
    body = simulation.objects[RECORD]
    entry = body["data"]["source-a"]
    simulation.watches_are_late = True
    simulation.server.put({**body, "data": {**body["data"], "source-b": entry}})
    simulation.workloads.advance(simulation.now)
    for _ in range(4):
        simulation.step()
        simulation.workloads.advance(simulation.now)
    simulation.watches_are_late = False
    simulation.run_for(120)
    assert simulation.phase == Phase.SERVING
    assert simulation.objects[RECORD]["data"]["source-b"] == entry
    assert len([name for name in simulation.objects[RECORD]["data"] if "artefact" in name]) == 2


# The volume


def test_a_claim_that_was_made_again_has_nothing_in_it() -> None:
    retain: Object = {"storage": {"onDelete": "Retain"}}
    simulation = Simulation(retain)
    simulation.run_for(60)
    built = len(simulation.all_jobs("build"))
    simulation.now += 60
    simulation.server.discard(CLAIM)
    simulation.run_for(300)
    assert simulation.phase == Phase.SERVING
    assert len(simulation.all_jobs("build")) == built + 1
    assert simulation.status.engine.cache_hit is not True
    claim = simulation.objects[CLAIM]["metadata"]["uid"]
    assert simulation.objects[RECORD]["data"]["claim"] == claim


def test_a_retained_record_without_its_claim_is_no_cache_hit() -> None:
    retain: Object = {"storage": {"onDelete": "Retain"}}
    simulation = Simulation(retain)
    simulation.run_for(60)
    simulation.server.discard(ObjectRef("LlmJpModel", "a"))
    simulation.server.discard(CLAIM)
    simulation.now += 60
    built = len(simulation.all_jobs("build"))
    simulation.workloads.script = succeed
    simulation.edit(retain)
    simulation.run_for(300)
    assert simulation.phase == Phase.SERVING
    assert len(simulation.all_jobs("build")) == built + 1
