"""From a spec to pods that answer, step by step, in a cluster that does its part at once."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from e2e.played import built, digest, ended, well
from llmjp_builder.spec import Failure
from llmjp_operator.api import Phase
from llmjp_operator.observe.snapshot import ObjectRef
from tests.operator.objects import Object
from tests.operator.scenes import a_failure, a_model
from tests.operator.world import World, only


def tp(ranks: int) -> Object:
    return {"engine": {"backend": "torch", "maxSeqLen": 512, "tensorParallel": ranks}}


def failing(failure: Failure) -> Any:
    return only("build", ended(failure.to_json(), 3))


def served(**values: Any) -> World:
    world = World(a_model(), **values)
    world.settle()
    return world


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
    world.script = lambda pod: None
    world.change(a_model(tp(2)))
    world.step()
    assert world.phase == Phase.BUILDING
    assert world.status.engine.active == old
    assert world.reason("Available") == "PodsReady"
    world.script = well
    world.settle()
    assert world.phase == Phase.SERVING
    assert world.status.engine.previous == old
    assert world.status.engine.active == world.status.engine.key != old


def test_going_back_is_editing_and_builds_nothing() -> None:
    world = served()
    old = world.status.engine.active
    world.change(a_model(tp(2)))
    world.settle()
    jobs = list(world.built)
    world.change(a_model())
    world.settle()
    assert world.status.engine.active == old
    assert world.status.engine.cache_hit is True
    assert world.built == jobs


def test_the_old_pods_can_be_scaled_while_a_new_engine_is_built() -> None:
    world = served()
    world.script = lambda pod: (
        well(pod) if "serving" in pod["metadata"]["labels"].values() else None
    )
    old = world.status.engine.active
    world.change(a_model({**tp(2), "serving": {"replicas": 3}}))
    for _ in range(3):
        world.step()
        world._play()
    made = world.objects[ObjectRef("Deployment", "a")]
    assert made["spec"]["replicas"] == 3
    assert world.status.engine.active == old
    assert world.phase == Phase.BUILDING


@pytest.mark.parametrize("retryable", [True, False])
def test_a_failed_build_leaves_the_old_engine_and_says_why(retryable: bool) -> None:
    world = served()
    old = world.status.engine.active
    world.script = failing(a_failure("compile_failed", retryable=retryable))
    world.change(a_model(tp(2)))
    world.settle()
    assert world.phase == Phase.DEGRADED
    assert world.status.engine.active == old
    assert world.reason("EngineReady") == "BuildFailed"
    assert world.status.build.failure is not None
    assert world.status.build.failure.code == "compile_failed"
    assert len(world.built) == (5 if retryable else 2)
    assert [n.type for n in world.told if n.reason == "BuildFailed"] == ["Warning"]
    world.script = well
    world.change(a_model())
    world.settle()
    assert world.phase == Phase.SERVING


def test_a_first_build_that_fails_for_good_is_failed() -> None:
    world = World(a_model(), script=failing(a_failure("bad_config", retryable=False)))
    world.settle()
    assert world.phase == Phase.FAILED
    assert "kubectl annotate" in next(
        c.message for c in world.status.conditions if c.type == "Progressing"
    )


def test_a_failure_that_passes_is_tried_again() -> None:
    calls: list[int] = []

    def script(pod: Object) -> Object | None:
        if pod["metadata"]["labels"]["app.kubernetes.io/component"] != "build":
            return well(pod)
        calls.append(1)
        return ended(a_failure().to_json(), 3) if len(calls) < 3 else well(pod)

    world = World(a_model(), script=script)
    world.settle()
    assert world.phase == Phase.SERVING
    assert len(calls) == 3


def test_an_annotation_tries_again_what_failed_for_good() -> None:
    world = World(a_model(), script=failing(a_failure("gated_repository", retryable=False)))
    world.settle()
    world.script = well
    world.change(a_model(retry="now"))
    world.settle()
    assert world.phase == Phase.SERVING


def broken(pod: Object, key: str) -> Object | None:
    if pod["metadata"]["labels"].get("serving.llmjp.dev/key") == key:
        return {"phase": "Running"}
    return well(pod)


def key_of(world: World, ranks: int) -> str:
    """The key that the stand-in's builds come to."""
    probe = World(a_model(tp(ranks)))
    probe.settle()
    key = probe.status.engine.key
    assert key is not None
    assert world.script is not None
    return key


def test_an_engine_that_does_not_load_leaves_the_old_pods() -> None:
    world = served()
    old, bad = world.status.engine.active, key_of(served(), 2)
    world.script = lambda pod: broken(pod, bad)
    world.change(a_model(tp(2)))
    world.settle()
    assert world.phase == Phase.DEGRADED
    assert world.status.engine.active == old
    assert world.reason("Progressing") == "RolloutStalled"
    world.script = well
    world.change(a_model())
    world.settle()
    assert world.phase == Phase.SERVING


SCARCE = {"serving": {"maxSurge": 0}}


def test_without_a_gpu_to_spare_the_old_engine_comes_back() -> None:
    world = World(a_model(SCARCE))
    world.settle()
    old, bad = world.status.engine.active, key_of(world, 2)
    world.script = lambda pod: broken(pod, bad)
    world.change(a_model({**tp(2), **SCARCE}))
    world.settle()
    assert world.status.engine.active == old
    assert world.reason("Progressing") == "RolledBack"
    assert world.phase == Phase.DEGRADED
    assert [n.reason for n in world.told if n.reason == "Downtime"] == ["Downtime"]
    writes = world.writes
    world.step()
    assert world.writes == writes, "it does not go back and forth"
    world.script = well
    world.change(a_model({**tp(4), **SCARCE}))
    world.settle()
    assert world.phase == Phase.SERVING


def test_a_stale_build_is_ended_when_the_spec_moves_on() -> None:
    world = served()
    world.script = lambda pod: None
    world.change(a_model(tp(2)))
    world.step()
    world.step()
    [stale] = [job.name for job in world.job_facts if not job.finished]
    world.change(a_model(tp(4)))
    world.step()
    assert stale not in {job.name for job in world.job_facts}


def test_nothing_begins_before_the_terms_are_accepted() -> None:
    hub = {"repository": "llm-jp/llm-jp-3-172b-instruct3"}
    world = World(a_model({"source": {"huggingFace": hub}}))
    world.settle()
    assert world.phase == Phase.BLOCKED
    assert not world.objects
    world.change(
        a_model(
            {
                "source": {"huggingFace": hub},
                "licence": {"accepted": "llm-jp-3-172b-instruct3-tou"},
            }
        )
    )
    world.settle()
    assert world.phase == Phase.SERVING


def test_old_artefacts_are_collected_and_those_in_use_are_not() -> None:
    world = served()
    keys = [world.status.engine.active]
    for ranks in (2, 4):
        world.change(a_model(tp(ranks)))
        world.settle()
        keys.append(world.status.engine.active)
    assert [line[-1:] for line in world.collected] == [[keys[0]]]
    assert not [job for job in world.job_facts if job.component == "collect"]
    world.change(a_model())
    world.settle()
    assert world.phase == Phase.SERVING
    assert len(world.built) == 4, "what was removed is built again"


def test_what_is_wanted_no_longer_goes() -> None:
    from dataclasses import replace

    from tests.operator.scenes import SETTINGS

    world = served()
    assert ObjectRef("NetworkPolicy", "a") in world.objects
    world.settings = replace(SETTINGS, network=replace(SETTINGS.network, enabled=False))
    world.settle()
    assert not [ref for ref in world.objects if ref.kind == "NetworkPolicy"]


STORY = [a_model(), a_model(tp(2)), a_model({**tp(4), **SCARCE}), a_model()]


def told(kill_after: int | None) -> World:
    world = World(STORY[0], kill_after=kill_after)
    world.settle()
    for chapter in STORY[1:]:
        world.change(chapter)
        world.settle()
    return world


def comparable(world: World) -> Object:
    found = {}
    for ref, body in world.objects.items():
        kept = copy.deepcopy(body)
        kept["metadata"] = {k: v for k, v in kept["metadata"].items() if k not in VOLATILE}
        kept["metadata"].get("labels", {}).pop("batch.kubernetes.io/controller-uid", None)
        kept.pop("status", None)
        found[f"{ref.kind}/{ref.name}"] = kept
    return found


VOLATILE = {"uid", "generation"}


def test_killed_after_any_write_it_comes_to_the_same() -> None:
    undisturbed = told(None)
    for moment in range(undisturbed.writes):
        world = told(moment)
        assert comparable(world) == comparable(undisturbed), moment
        assert world.built == undisturbed.built, f"{moment}: a second Job"
        assert world.status.engine == undisturbed.status.engine, moment


def test_the_stand_in_builds_another_key_for_another_spec() -> None:
    pod = {"metadata": {"annotations": {"serving.llmjp.dev/build-spec": "{}"}}}
    with pytest.raises(KeyError):
        built(pod)
    assert digest("a") != digest("b")
