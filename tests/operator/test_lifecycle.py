"""A model's life from spec to serving pods, through the real controller, on a fake API server."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pytest

from e2e.fake_kubelet import hash_text, make_artefact, make_ended_status, succeed
from llmjp_builder.contracts.spec import Failure
from llmjp_operator.api import Phase
from llmjp_operator.names import KIND
from llmjp_operator.observe.snapshot import ObjectRef
from tests.operator.factories import SETTINGS, make_failure
from tests.operator.fake_workloads import JOB_UID, only
from tests.operator.model_bodies import Object
from tests.operator.simulation import Simulation


def tp(ranks: int) -> Object:
    return {"engine": {"backend": "torch", "maxSeqLen": 512, "tensorParallel": ranks}}


def failing(failure: Failure) -> Any:
    return only("build", make_ended_status(failure.to_json(), 3))


def served(**values: Any) -> Simulation:
    world = Simulation(**values)
    world.settle()
    return world


def build_names(world: Simulation) -> list[str]:
    return [job["metadata"]["name"] for job in world.all_jobs("build")]


def arguments(job: Object) -> list[str]:
    return list(job["spec"]["template"]["spec"]["containers"][0]["args"])


def test_a_model_is_pinned_built_and_served() -> None:
    world = served()
    status = world.status
    assert world.phase == Phase.SERVING
    assert [(c.type, c.status) for c in status.conditions] == [
        ("Accepted", "True"),
        ("EngineReady", "True"),
        ("Available", "True"),
        ("Progressing", "False"),
    ]
    assert status.engine.key == status.engine.active
    assert status.engine.cache_hit is False
    assert status.source.digest is not None
    assert status.endpoint is not None
    assert status.endpoint.grpc == "a.ns.svc:8001"
    assert status.build.job is None


def test_a_quiet_model_writes_nothing() -> None:
    world = served()
    before = world.writes
    world.step()
    assert world.writes == before


def test_a_change_is_built_beside_what_serves_and_then_takes_over() -> None:
    world = served()
    old = world.status.engine.active
    world.workloads.script = lambda pod: None
    world.edit(tp(2))
    world.step()
    assert world.phase == Phase.BUILDING
    assert world.status.engine.active == old
    assert world.reason("Available") == "PodsReady"
    world.workloads.script = succeed
    world.settle()
    assert world.phase == Phase.SERVING
    assert world.status.engine.previous == old
    assert world.status.engine.active == world.status.engine.key != old


def test_going_back_is_editing_and_builds_nothing() -> None:
    world = served()
    old = world.status.engine.active
    world.edit(tp(2))
    world.settle()
    jobs = build_names(world)
    world.edit()
    world.settle()
    assert world.status.engine.active == old
    assert world.status.engine.cache_hit is True
    assert build_names(world) == jobs


def test_another_revision_of_the_source_is_another_build() -> None:
    world = served()
    old = world.status.engine.active
    hub = {"repository": "example/llama", "revision": "another"}
    world.edit({"source": {"huggingFace": hub}})
    world.settle()
    assert world.phase == Phase.SERVING
    assert world.status.engine.previous == old
    assert len(build_names(world)) == 2


def test_the_old_pods_can_be_scaled_while_a_new_engine_is_built() -> None:
    world = served()
    world.workloads.script = lambda pod: (
        succeed(pod) if "serving" in pod["metadata"]["labels"].values() else None
    )
    old = world.status.engine.active
    world.edit({**tp(2), "serving": {"replicas": 3}})
    for _ in range(3):
        world.step()
        world.workloads.advance(world.now)
    made = world.objects[ObjectRef("Deployment", "a")]
    assert made["spec"]["replicas"] == 3
    assert world.status.engine.active == old
    assert world.phase == Phase.BUILDING


@pytest.mark.parametrize("retryable", [True, False])
def test_a_failed_build_leaves_the_old_engine_and_says_why(retryable: bool) -> None:
    world = served()
    old = world.status.engine.active
    world.workloads.script = failing(make_failure("compile_failed", retryable=retryable))
    world.edit(tp(2))
    world.settle()
    assert world.phase == Phase.DEGRADED
    assert world.status.engine.active == old
    assert world.reason("EngineReady") == "BuildFailed"
    assert world.status.build.failure is not None
    assert world.status.build.failure.code == "compile_failed"
    assert len(build_names(world)) == (5 if retryable else 2)
    assert [e["type"] for e in world.server.events if e["reason"] == "BuildFailed"] == ["Warning"]
    world.workloads.script = succeed
    world.edit()
    world.settle()
    assert world.phase == Phase.SERVING


def test_a_first_build_that_fails_for_good_is_failed() -> None:
    world = Simulation(script=failing(make_failure("bad_config", retryable=False)))
    world.settle()
    assert world.phase == Phase.FAILED
    assert "kubectl annotate" in next(
        c.message for c in world.status.conditions if c.type == "Progressing"
    )


def test_a_failure_that_passes_is_tried_again() -> None:
    calls: list[int] = []

    def script(pod: Object) -> Object | None:
        if pod["metadata"]["labels"]["app.kubernetes.io/component"] != "build":
            return succeed(pod)
        calls.append(1)
        return make_ended_status(make_failure().to_json(), 3) if len(calls) < 3 else succeed(pod)

    world = Simulation(script=script)
    world.settle()
    assert world.phase == Phase.SERVING
    assert len(calls) == 3


def test_an_annotation_tries_again_what_failed_for_good() -> None:
    world = Simulation(script=failing(make_failure("gated_repository", retryable=False)))
    world.settle()
    world.workloads.script = succeed
    world.edit(retry="now")
    world.settle()
    assert world.phase == Phase.SERVING


def broken(pod: Object, key: str) -> Object | None:
    if pod["metadata"]["labels"].get("serving.llmjp.dev/key") == key:
        return {"phase": "Running"}
    return succeed(pod)


def key_of(world: Simulation, ranks: int) -> str:
    """The key that the stand-in's builds come to."""
    probe = Simulation(tp(ranks))
    probe.settle()
    key = probe.status.engine.key
    assert key is not None
    assert world.workloads.script is not None
    return key


def test_an_engine_that_does_not_load_leaves_the_old_pods() -> None:
    world = served()
    old, bad = world.status.engine.active, key_of(served(), 2)
    world.workloads.script = lambda pod: broken(pod, bad)
    world.edit(tp(2))
    world.settle()
    assert world.phase == Phase.DEGRADED
    assert world.status.engine.active == old
    assert world.reason("Progressing") == "RolloutStalled"
    world.workloads.script = succeed
    world.edit()
    world.settle()
    assert world.phase == Phase.SERVING


SCARCE = {"serving": {"maxSurge": 0}}


def test_without_a_gpu_to_spare_the_old_engine_comes_back() -> None:
    world = Simulation(SCARCE)
    world.settle()
    old, bad = world.status.engine.active, key_of(world, 2)
    world.workloads.script = lambda pod: broken(pod, bad)
    world.edit({**tp(2), **SCARCE})
    world.settle()
    assert world.status.engine.active == old
    assert world.reason("Progressing") == "RolledBack"
    assert world.phase == Phase.DEGRADED
    assert [e["reason"] for e in world.server.events if e["reason"] == "Downtime"] == ["Downtime"]
    writes = world.writes
    world.step()
    assert world.writes == writes, "it does not go back and forth"
    world.workloads.script = succeed
    world.edit({**tp(4), **SCARCE})
    world.settle()
    assert world.phase == Phase.SERVING


def test_a_stale_build_is_ended_when_the_spec_moves_on() -> None:
    world = served()
    world.workloads.script = lambda pod: None
    world.edit(tp(2))
    world.step()
    world.step()
    [stale] = [job.name for job in world.jobs if not job.finished]
    world.edit(tp(4))
    world.step()
    assert stale not in {job.name for job in world.jobs}


def test_nothing_begins_before_the_terms_are_accepted() -> None:
    hub = {"repository": "llm-jp/llm-jp-3-172b-instruct3"}
    world = Simulation({"source": {"huggingFace": hub}})
    world.settle()
    assert world.phase == Phase.BLOCKED
    assert {ref.kind for ref in world.objects} == {"LlmJpModel"}
    world.edit(
        {"source": {"huggingFace": hub}, "licence": {"accepted": "llm-jp-3-172b-instruct3-tou"}}
    )
    world.settle()
    assert world.phase == Phase.SERVING


def test_old_artefacts_are_collected_but_not_those_in_use() -> None:
    world = served()
    keys = [world.status.engine.active]
    for ranks in (2, 4):
        world.edit(tp(ranks))
        world.settle()
        keys.append(world.status.engine.active)
    assert [arguments(job)[-1:] for job in world.all_jobs("collect")] == [[keys[0]]]
    assert not [job for job in world.jobs if job.component == "collect"]
    world.edit()
    world.settle()
    assert world.phase == Phase.SERVING
    assert len(build_names(world)) == 4, "what was removed is built again"


def with_seq_len(length: int, **others: Object) -> Object:
    """Return a spec whose artefact is that of `tp(4)`, and whose pods are its own."""
    return {"engine": {**tp(4)["engine"], "maxSeqLen": length}, **SCARCE, **others}


def test_nothing_is_collected_after_a_rollback() -> None:
    """What is asked for is there and serves, but not by the pods that are asked for."""
    world = Simulation(SCARCE)
    world.settle()
    oldest = world.status.engine.active
    keeps_three = {"storage": {"keepEngines": 3}}
    for changes in ({**tp(2), **SCARCE, **keeps_three}, with_seq_len(512, **keeps_three)):
        world.edit(changes)
        world.settle()
    started = {ref for ref in world.objects if ref.kind == "Pod"}
    world.workloads.script = lambda pod: (
        succeed(pod)
        if ObjectRef("Pod", pod["metadata"]["name"]) in started
        else {"phase": "Running"}
    )
    keeps_one = {"storage": {"keepEngines": 1}}
    world.edit(with_seq_len(500, **keeps_one))
    world.settle()
    assert world.reason("Progressing") == "RolledBack"
    assert not world.all_jobs("collect")
    world.workloads.script = succeed
    world.edit(with_seq_len(400, **keeps_one))
    world.settle()
    assert [arguments(job)[-1] for job in world.all_jobs("collect")] == [oldest]


def test_network_policies_go_when_they_are_switched_off() -> None:
    world = served()
    assert ObjectRef("NetworkPolicy", "a") in world.objects
    world.restart(replace(SETTINGS, network=replace(SETTINGS.network, enabled=False)))
    world.settle()
    assert not [ref for ref in world.objects if ref.kind == "NetworkPolicy"]


STORY: dict[str, Object] = {
    "created": {},
    "changed": tp(2),
    "changed without a GPU to spare": {**tp(4), **SCARCE},
    "changed back": {},
}
"""Specs, one after the other."""


@functools.cache
def before(chapter: str) -> Simulation:
    """Return what was there when a spec of the story came."""
    world = Simulation()
    world.server.discard(ObjectRef(KIND, "a"))
    for name, changes in STORY.items():
        if name == chapter:
            break
        world.edit(changes)
        world.settle()
    return world


def live_through(chapter: str, *, kill_after: int | None = None, down_s: float = 0.0) -> Simulation:
    world = before(chapter).fork(kill_after=kill_after)
    world.down_s = down_s
    world.edit(STORY[chapter])
    world.settle()
    return world


def comparable(world: Simulation) -> Object:
    """Return all objects without what differs from run to run."""
    found = {}
    for ref, body in world.objects.items():
        metadata = {k: v for k, v in body["metadata"].items() if k not in VOLATILE}
        metadata["labels"] = {k: v for k, v in metadata.get("labels", {}).items() if k != JOB_UID}
        rest = {k: v for k, v in body.items() if k not in {"metadata", "status"}}
        found[f"{ref.kind}/{ref.name}"] = {**rest, "metadata": metadata}
    return found


VOLATILE = {"uid", "generation", "resourceVersion", "ownerReferences", "managedFields"}


def assert_same(world: Simulation, undisturbed: Simulation, when: str) -> None:
    assert comparable(world) == comparable(undisturbed), when
    assert build_names(world) == build_names(undisturbed), f"{when}: a second Job"
    assert not world.errors, when


@pytest.mark.parametrize("chapter", STORY)
def test_an_operator_killed_at_any_write_converges_to_the_same_objects(chapter: str) -> None:
    undisturbed = live_through(chapter)
    for moment, write in enumerate(undisturbed.server.writes):
        world = live_through(chapter, kill_after=moment)
        assert world.server.writes[: moment + 1] == undisturbed.server.writes[: moment + 1]
        assert_same(world, undisturbed, f"killed by {write} ({moment})")
        assert world.status.engine == undisturbed.status.engine


@pytest.mark.parametrize("chapter", STORY)
def test_jobs_that_finish_while_the_operator_is_down_are_not_missed(chapter: str) -> None:
    undisturbed = live_through(chapter)
    for moment, write in enumerate(undisturbed.server.writes):
        world = live_through(chapter, kill_after=moment, down_s=60.0)
        assert_same(world, undisturbed, f"killed by {write} ({moment})")
        assert world.status.engine.active == undisturbed.status.engine.active


@pytest.mark.parametrize("chapter", STORY)
def test_an_operator_killed_at_each_of_its_writes_still_converges(chapter: str) -> None:
    world = before(chapter).fork()
    world.server.kill_always = True
    world.edit(STORY[chapter])
    world.settle()
    assert_same(world, live_through(chapter), "killed by each write")
    assert world.phase == Phase.SERVING


def test_the_fake_kubelet_builds_another_key_for_another_spec() -> None:
    pod = {"metadata": {"annotations": {"serving.llmjp.dev/build-spec": "{}"}}}
    with pytest.raises(KeyError):
        make_artefact(pod)
    assert hash_text("a") != hash_text("b")
