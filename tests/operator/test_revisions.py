"""Revisions, through the real controller: upgrades disturb nobody, a rollback is whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from e2e.fake_kubelet import succeed
from llmjp_operator.api import Phase, encode_given
from llmjp_operator.api.serving import Serving
from llmjp_operator.decide import revisions
from llmjp_operator.names import KIND
from llmjp_operator.observe.revision import Revision, parse_revision
from llmjp_operator.observe.snapshot import ObjectRef
from llmjp_operator.settings import Images, Settings
from tests.operator.factories import SETTINGS
from tests.operator.fake_workloads import only
from tests.operator.model_bodies import Object
from tests.operator.simulation import Simulation
from tests.operator.test_every_advice import pods_fail

RECORD = ObjectRef("ConfigMap", "ljm-store-a-store")
DEPLOYMENT = ObjectRef("Deployment", "a")
NO_SURGE: Object = {"serving": {"maxSurge": 0}}
NEWER = replace(SETTINGS, images={"cpu": Images(builder="builder:2", runtime="runtime:2")})


def serving(changes: Object | None = None, settings: Settings = SETTINGS) -> Simulation:
    simulation = Simulation(changes, settings=settings)
    simulation.run_for(60)
    assert simulation.phase == Phase.SERVING
    return simulation


def list_revisions(simulation: Simulation) -> list[Revision]:
    found = [
        parse_revision(body)
        for ref, body in simulation.objects.items()
        if ref.kind == "ControllerRevision"
    ]
    return sorted(filter(None, found), key=lambda revision: revision.number)


def template(simulation: Simulation, name: str = "a") -> Any:
    return simulation.objects[ObjectRef("Deployment", name)]["spec"]["template"]


def image(simulation: Simulation, name: str = "a") -> str:
    return str(template(simulation, name)["spec"]["containers"][0]["image"])


def pulls_slowly(pod: Object) -> Object | None:
    """Let pods that serve wait for their image for ever."""
    if pod["spec"]["containers"][0]["args"][0] != "serve":
        return succeed(pod)
    waiting = {"reason": "ContainerCreating"}
    statuses = [{"name": "triton", "state": {"waiting": waiting}, "ready": False}]
    return {"phase": "Pending", "containerStatuses": statuses}


# Upgrades


def test_a_revision_keeps_everything_that_was_rolled_out() -> None:
    simulation = serving()
    [revision] = list_revisions(simulation)
    assert revision.template == template(simulation)
    assert (revision.number, revision.served, revision.failed) == (1, True, None)
    assert revision.key == simulation.status.engine.active
    [body] = [b for ref, b in simulation.objects.items() if ref.kind == "ControllerRevision"]
    assert body["metadata"]["ownerReferences"][0]["kind"] == KIND


def test_other_images_and_another_template_roll_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = serving()
    simulation.server.writes.clear()
    monkeypatch.setattr(revisions, "TEMPLATE_REVISION", 99)
    simulation.restart(NEWER)
    simulation.run_for(600)
    assert simulation.server.writes == []
    assert (simulation.phase, image(simulation)) == (Phase.SERVING, "runtime:cpu")
    simulation.edit({"serving": {"maxQueue": 7}})
    simulation.run_for(60)
    assert image(simulation) == "runtime:2", "with the next edit they come"
    assert [r.number for r in list_revisions(simulation)] == [1, 2]


def test_scaling_after_an_upgrade_rolls_nothing() -> None:
    simulation = serving()
    before = template(simulation)
    simulation.restart(NEWER)
    simulation.edit({"serving": {"replicas": 3, "maxSurge": 0, "service": {"type": "NodePort"}}})
    simulation.run_for(60)
    assert template(simulation) == before
    assert simulation.objects[DEPLOYMENT]["spec"]["replicas"] == 3


def test_who_asks_for_it_is_rolled() -> None:
    simulation = serving()
    simulation.restart(NEWER)
    simulation.edit({"serving": {"upgradePolicy": "Roll"}})
    simulation.run_for(60)
    assert (simulation.phase, image(simulation)) == (Phase.SERVING, "runtime:2")


def test_upgrades_go_one_after_the_other() -> None:
    names = ("a", "b", "c")
    simulation = Simulation()
    for name in names[1:]:
        simulation.edit(name=name)
    simulation.run_for(60)
    roll = replace(NEWER, upgrade_policy="Roll")
    simulation.workloads.script = pulls_slowly
    simulation.restart(roll)
    order = []
    for _ in names:
        for name in names:
            simulation.step(name)
        rolling = [n for n in names if image(simulation, n) == "runtime:2" and n not in order]
        assert len(rolling) == 1
        waiting = [n for n in names if n not in order and n not in rolling]
        assert all(simulation.reason("Progressing", n) == "UpgradeQueued" for n in waiting)
        assert all(simulation.reason("Ready", n) == "UpgradeQueued" for n in waiting)
        order += rolling
        simulation.workloads.script = succeed
        simulation.workloads.advance(simulation.now)
        simulation.workloads.script = pulls_slowly
    assert sorted(order) == list(names)


def test_a_model_that_lost_a_pod_holds_no_upgrade_up() -> None:
    simulation = Simulation()
    simulation.edit(name="b")
    simulation.run_for(60)
    sick = simulation.objects[ObjectRef("Deployment", "b")]
    status = {**sick["status"], "readyReplicas": 0, "availableReplicas": 0}
    simulation.restart(replace(NEWER, upgrade_policy="Roll"))
    simulation.server.put({**sick, "status": status})
    simulation.step("a")
    assert image(simulation, "a") == "runtime:2"


def test_an_image_that_could_not_be_pulled_is_mended_under_keep() -> None:
    simulation = Simulation(script=pulls_slowly)
    simulation.run_for(60)
    simulation.workloads.script = succeed
    simulation.restart(NEWER)
    simulation.run_for(60)
    assert (simulation.phase, image(simulation)) == (Phase.SERVING, "runtime:2")


def test_a_field_with_a_default_changes_no_digest() -> None:
    assert encode_given(Serving()) == {}
    assert encode_given(Serving(max_queue=7)) == {"maxQueue": 7}


# Rolling back


def test_a_rollback_takes_everything_back() -> None:
    simulation = serving(NO_SURGE)
    before = template(simulation)
    bad: Object = {"serving": {"maxSurge": 0, "resources": {"requests": {"memory": "99Ti"}}}}
    simulation.workloads.script = pods_fail("99Ti")
    simulation.restart(NEWER)
    simulation.edit(bad)
    simulation.run_for(400)
    assert simulation.reason("Progressing") == "RolledBack"
    assert template(simulation) == before
    assert simulation.status.ready_replicas == 1


def test_a_slow_pull_sends_nothing_back() -> None:
    simulation = serving(NO_SURGE)
    simulation.workloads.script = pulls_slowly
    simulation.edit({"engine": {"backend": "torch", "tensorParallel": 2}, **NO_SURGE})
    simulation.run_for(400)
    newer = template(simulation)
    assert simulation.reason("Progressing") == "RolloutStalled"
    simulation.workloads.script = succeed
    simulation.run_for(60)
    simulation.workloads.advance(simulation.now)
    simulation.run_for(60)
    assert (simulation.phase, template(simulation)) == (Phase.SERVING, newer)


def test_a_corrected_spec_is_tried_whatever_the_old_status_says() -> None:
    simulation = serving(NO_SURGE)
    simulation.workloads.script = pods_fail("200")
    simulation.edit({"engine": {"backend": "torch", "maxSeqLen": 200}, **NO_SURGE})
    simulation.settle()
    simulation.edit({"engine": {"backend": "torch", "maxSeqLen": 300}, **NO_SURGE})
    for _ in range(3):
        simulation.step()
    assert "300" in template(simulation)["spec"]["containers"][0]["args"]
    simulation.settle()
    assert simulation.phase == Phase.SERVING


def test_an_edit_of_the_source_changes_nothing_that_serves() -> None:
    simulation = serving()
    before = simulation.objects[DEPLOYMENT]
    simulation.workloads.script = only("build", {"phase": "Running"})
    simulation.edit({"source": {"huggingFace": {"revision": "v2"}}})
    simulation.run_for(120)
    assert simulation.phase == Phase.BUILDING
    assert simulation.objects[DEPLOYMENT]["spec"] == before["spec"]


def test_a_model_of_the_same_name_inherits_nothing() -> None:
    retain: Object = {"storage": {"onDelete": "Retain"}, **NO_SURGE}
    simulation = serving(retain)
    simulation.server.discard(ObjectRef(KIND, "a"))
    simulation.run_for(10)
    assert list_revisions(simulation) == []
    simulation.workloads.script = pods_fail("200")
    simulation.edit(
        {"engine": {"backend": "torch", "maxSeqLen": 200, "tensorParallel": 2}, **retain}
    )
    simulation.run_for(400)
    assert "200" in template(simulation)["spec"]["containers"][0]["args"]
    assert simulation.reason("Progressing") == "RolloutStalled"


def test_a_revision_that_failed_is_tried_again_by_the_annotation() -> None:
    simulation = serving(NO_SURGE)
    simulation.workloads.script = pods_fail("200")
    simulation.edit({"engine": {"backend": "torch", "maxSeqLen": 200}, **NO_SURGE})
    simulation.run_for(400)
    assert simulation.reason("Progressing") == "RolledBack"
    simulation.workloads.script = succeed
    simulation.annotate(retry="1")
    simulation.run_for(120)
    assert simulation.phase == Phase.SERVING
    assert "200" in template(simulation)["spec"]["containers"][0]["args"]


# By hand


def test_somebody_may_hold_an_older_revision() -> None:
    simulation = serving()
    before = template(simulation)
    simulation.edit({"serving": {"maxQueue": 7}})
    simulation.run_for(60)
    simulation.annotate(rollback_to="1")
    simulation.run_for(60)
    assert template(simulation) == before
    assert (simulation.phase, simulation.reason("Ready")) == (Phase.SERVING, "HeldAtRevision")
    assert "revision 1" in simulation.message("Progressing")
    simulation.edit({"serving": {"maxQueue": 8}})
    simulation.annotate(rollback_to="1")
    simulation.run_for(60)
    assert template(simulation) == before, "an edit waits, too"
    simulation.annotate()
    simulation.run_for(60)
    assert simulation.reason("Ready") == "Complete"
    assert "8" in template(simulation)["spec"]["containers"][0]["args"]


def test_going_back_by_the_spec_is_the_same_revision_with_a_new_number() -> None:
    simulation = serving()
    simulation.edit({"serving": {"maxQueue": 7}})
    simulation.run_for(60)
    simulation.edit()
    simulation.run_for(60)
    assert [revision.number for revision in list_revisions(simulation)] == [2, 3]


def test_a_revision_goes_with_its_artefact() -> None:
    keeps_one: Object = {"storage": {"keepEngines": 1}}
    simulation = serving(keeps_one)
    for ranks in (2, 4):
        engine = {"backend": "torch", "tensorParallel": ranks}
        simulation.edit({"engine": engine, **keeps_one})
        simulation.run_for(120)
    assert simulation.all_jobs("collect")
    kept = {revision.key for revision in list_revisions(simulation)}
    built = {name for name in simulation.objects[RECORD]["data"] if name.startswith("artefact-")}
    assert len(kept) == len(built) < 3
    assert simulation.status.engine.active in kept


def test_what_a_failure_goes_back_to_is_kept_however_old_it_is() -> None:
    simulation = serving(NO_SURGE)
    before = template(simulation)
    simulation.workloads.rollouts_stall = False
    for length in range(200, 214):
        simulation.workloads.script = pods_fail(str(length))
        simulation.edit({"engine": {"backend": "torch", "maxSeqLen": length}, **NO_SURGE})
        simulation.run_for(20)
    simulation.workloads.rollouts_stall = True
    simulation.workloads.advance(simulation.now)
    simulation.run_for(400)
    assert simulation.reason("Progressing") == "RolledBack"
    assert template(simulation) == before
    assert simulation.status.ready_replicas == 1
    assert 1 in [revision.number for revision in list_revisions(simulation)]


def test_the_last_ten_are_kept() -> None:
    simulation = serving()
    for queue in range(1, 13):
        simulation.edit({"serving": {"maxQueue": queue}})
        simulation.run_for(60)
    numbers = [revision.number for revision in list_revisions(simulation)]
    assert numbers == list(range(4, 14))
