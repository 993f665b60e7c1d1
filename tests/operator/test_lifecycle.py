"""A model's life from spec to serving pods, through the real controller, on a fake API server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from e2e.fake_kubelet import hash_text, make_artefact, make_ended_status, succeed
from llmjp_builder.contracts.spec import Failure
from llmjp_operator.api import Phase
from llmjp_operator.names import KIND
from llmjp_operator.observe.snapshot import ObjectRef
from tests.operator.factories import SETTINGS, make_failure
from tests.operator.fake_workloads import only
from tests.operator.model_bodies import Object
from tests.operator.simulation import Simulation


def tp(ranks: int) -> Object:
    return {"engine": {"backend": "torch", "maxSeqLen": 512, "tensorParallel": ranks}}


def failing(failure: Failure) -> Any:
    return only("build", make_ended_status(failure.to_json(), 3))


def served(**values: Any) -> Simulation:
    simulation = Simulation(**values)
    simulation.settle()
    return simulation


def build_names(simulation: Simulation) -> list[str]:
    return [job["metadata"]["name"] for job in simulation.all_jobs("build")]


def arguments(job: Object) -> list[str]:
    return list(job["spec"]["template"]["spec"]["containers"][0]["args"])


def test_a_model_is_pinned_built_and_served() -> None:
    simulation = served()
    status = simulation.status
    assert simulation.phase == Phase.SERVING
    assert [(c.type, c.status) for c in status.conditions] == [
        ("Ready", "True"),
        ("Reconciling", "False"),
        ("Stalled", "False"),
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
    simulation = served()
    before = simulation.writes
    simulation.step()
    assert simulation.writes == before


def test_a_change_is_built_beside_what_serves_and_then_takes_over() -> None:
    simulation = served()
    old = simulation.status.engine.active
    simulation.workloads.script = lambda pod: None
    simulation.edit(tp(2))
    simulation.step()
    assert simulation.phase == Phase.BUILDING
    assert simulation.status.engine.active == old
    assert simulation.reason("Available") == "PodsReady"
    simulation.workloads.script = succeed
    simulation.settle()
    assert simulation.phase == Phase.SERVING
    assert simulation.status.engine.previous == old
    assert simulation.status.engine.active == simulation.status.engine.key != old


def test_going_back_is_editing_and_builds_nothing() -> None:
    simulation = served()
    old = simulation.status.engine.active
    simulation.edit(tp(2))
    simulation.settle()
    jobs = build_names(simulation)
    simulation.edit()
    simulation.settle()
    assert simulation.status.engine.active == old
    assert simulation.status.engine.cache_hit is True
    assert build_names(simulation) == jobs


def test_another_revision_of_the_source_is_another_build() -> None:
    simulation = served()
    old = simulation.status.engine.active
    hub = {"repository": "example/llama", "revision": "another"}
    simulation.edit({"source": {"huggingFace": hub}})
    simulation.settle()
    assert simulation.phase == Phase.SERVING
    assert simulation.status.engine.previous == old
    assert len(build_names(simulation)) == 2


def test_the_old_pods_can_be_scaled_while_a_new_engine_is_built() -> None:
    simulation = served()
    simulation.workloads.script = lambda pod: (
        succeed(pod) if "serving" in pod["metadata"]["labels"].values() else None
    )
    old = simulation.status.engine.active
    simulation.edit({**tp(2), "serving": {"replicas": 3}})
    for _ in range(3):
        simulation.step()
        simulation.workloads.advance(simulation.now)
    made = simulation.objects[ObjectRef("Deployment", "a")]
    assert made["spec"]["replicas"] == 3
    assert simulation.status.engine.active == old
    assert simulation.phase == Phase.BUILDING


@pytest.mark.parametrize("retryable", [True, False])
def test_a_failed_build_leaves_the_old_engine_and_says_why(retryable: bool) -> None:
    simulation = served()
    old = simulation.status.engine.active
    simulation.workloads.script = failing(make_failure("compile_failed", retryable=retryable))
    simulation.edit(tp(2))
    simulation.settle()
    assert simulation.phase == Phase.DEGRADED
    assert simulation.status.engine.active == old
    assert simulation.reason("EngineReady") == "BuildFailed"
    assert simulation.status.build.failure is not None
    assert simulation.status.build.failure.code == "compile_failed"
    assert len(build_names(simulation)) == (5 if retryable else 2)
    assert [e["type"] for e in simulation.server.events if e["reason"] == "BuildFailed"] == [
        "Warning"
    ]
    simulation.workloads.script = succeed
    simulation.edit()
    simulation.settle()
    assert simulation.phase == Phase.SERVING


def test_a_first_build_that_fails_for_good_is_failed() -> None:
    simulation = Simulation(script=failing(make_failure("bad_config", retryable=False)))
    simulation.settle()
    assert simulation.phase == Phase.FAILED
    assert "kubectl annotate" in simulation.message("Progressing")


def test_a_failure_that_passes_is_tried_again() -> None:
    calls: list[int] = []

    def script(pod: Object) -> Object | None:
        if pod["metadata"]["labels"]["app.kubernetes.io/component"] != "build":
            return succeed(pod)
        calls.append(1)
        return make_ended_status(make_failure().to_json(), 3) if len(calls) < 3 else succeed(pod)

    simulation = Simulation(script=script)
    simulation.settle()
    assert simulation.phase == Phase.SERVING
    assert len(calls) == 3


def test_an_annotation_tries_again_what_failed_for_good() -> None:
    simulation = Simulation(script=failing(make_failure("gated_repository", retryable=False)))
    simulation.settle()
    simulation.workloads.script = succeed
    simulation.edit(retry="now")
    simulation.settle()
    assert simulation.phase == Phase.SERVING


def broken(pod: Object, key: str) -> Object | None:
    if pod["metadata"]["labels"].get("serving.llmjp.dev/key") == key:
        return {"phase": "Running"}
    return succeed(pod)


def key_of(simulation: Simulation, ranks: int) -> str:
    """The key that the stand-in's builds come to."""
    probe = Simulation(tp(ranks))
    probe.settle()
    key = probe.status.engine.key
    assert key is not None
    assert simulation.workloads.script is not None
    return key


def test_an_engine_that_does_not_load_leaves_the_old_pods() -> None:
    simulation = served()
    old, bad = simulation.status.engine.active, key_of(served(), 2)
    simulation.workloads.script = lambda pod: broken(pod, bad)
    simulation.edit(tp(2))
    simulation.settle()
    assert simulation.phase == Phase.DEGRADED
    assert simulation.status.engine.active == old
    assert simulation.reason("Progressing") == "RolloutStalled"
    simulation.workloads.script = succeed
    simulation.edit()
    simulation.settle()
    assert simulation.phase == Phase.SERVING


SCARCE = {"serving": {"maxSurge": 0}}


def test_without_a_gpu_to_spare_the_old_engine_comes_back() -> None:
    simulation = Simulation(SCARCE)
    simulation.settle()
    old, bad = simulation.status.engine.active, key_of(simulation, 2)
    simulation.workloads.script = lambda pod: broken(pod, bad)
    simulation.edit({**tp(2), **SCARCE})
    simulation.settle()
    assert simulation.status.engine.active == old
    assert simulation.reason("Progressing") == "RolledBack"
    assert simulation.phase == Phase.DEGRADED
    assert [e["reason"] for e in simulation.server.events if e["reason"] == "Downtime"] == [
        "Downtime"
    ]
    writes = simulation.writes
    simulation.step()
    assert simulation.writes == writes, "it does not go back and forth"
    simulation.workloads.script = succeed
    simulation.edit({**tp(4), **SCARCE})
    simulation.settle()
    assert simulation.phase == Phase.SERVING


def test_a_stale_build_is_ended_when_the_spec_moves_on() -> None:
    simulation = served()
    simulation.workloads.script = lambda pod: None
    simulation.edit(tp(2))
    simulation.step()
    simulation.step()
    [stale] = [job.name for job in simulation.jobs if not job.finished]
    simulation.edit(tp(4))
    simulation.step()
    assert stale not in {job.name for job in simulation.jobs}


def test_nothing_begins_before_the_terms_are_accepted() -> None:
    hub = {"repository": "llm-jp/llm-jp-3-172b-instruct3"}
    simulation = Simulation({"source": {"huggingFace": hub}})
    simulation.settle()
    assert simulation.phase == Phase.BLOCKED
    assert {ref.kind for ref in simulation.objects} == {"LlmJpModel"}
    simulation.edit(
        {"source": {"huggingFace": hub}, "licence": {"accepted": "llm-jp-3-172b-instruct3-tou"}}
    )
    simulation.settle()
    assert simulation.phase == Phase.SERVING


def test_old_artefacts_are_collected_but_not_those_in_use() -> None:
    simulation = served()
    keys = [simulation.status.engine.active]
    for ranks in (2, 4):
        simulation.edit(tp(ranks))
        simulation.settle()
        keys.append(simulation.status.engine.active)
    assert [arguments(job)[-1:] for job in simulation.all_jobs("collect")] == [[keys[0]]]
    assert not [job for job in simulation.jobs if job.component == "collect"]
    simulation.edit()
    simulation.settle()
    assert simulation.phase == Phase.SERVING
    assert len(build_names(simulation)) == 4, "what was removed is built again"


def with_seq_len(length: int, **others: Object) -> Object:
    """Return a spec whose artefact is that of `tp(4)`, and whose pods are its own."""
    return {"engine": {**tp(4)["engine"], "maxSeqLen": length}, **SCARCE, **others}


def test_nothing_is_collected_after_a_rollback() -> None:
    """What is asked for is there and serves, but not by the pods that are asked for."""
    simulation = Simulation(SCARCE)
    simulation.settle()
    oldest = simulation.status.engine.active
    keeps_three = {"storage": {"keepEngines": 3}}
    for changes in ({**tp(2), **SCARCE, **keeps_three}, with_seq_len(512, **keeps_three)):
        simulation.edit(changes)
        simulation.settle()
    started = {ref for ref in simulation.objects if ref.kind == "Pod"}
    simulation.workloads.script = lambda pod: (
        succeed(pod)
        if ObjectRef("Pod", pod["metadata"]["name"]) in started
        else {"phase": "Running"}
    )
    keeps_one = {"storage": {"keepEngines": 1}}
    simulation.edit(with_seq_len(500, **keeps_one))
    simulation.settle()
    assert simulation.reason("Progressing") == "RolledBack"
    assert not simulation.all_jobs("collect")
    simulation.workloads.script = succeed
    simulation.edit(with_seq_len(400, **keeps_one))
    simulation.settle()
    assert [arguments(job)[-1] for job in simulation.all_jobs("collect")] == [oldest]


SHARED: Object = {"storage": {"size": None, "existingClaim": "shared"}}


def sharing(*models: tuple[str, Object]) -> Simulation:
    """Return models that serve from one store; `a` is the smallest."""
    simulation = Simulation(SHARED)
    simulation.server.put(
        {"kind": "PersistentVolumeClaim", "metadata": {"name": "shared"}, "spec": {}}
    )
    for name, changes in models:
        simulation.edit({**changes, **SHARED}, name)
    simulation.settle()
    return simulation


def list_collected(simulation: Simulation) -> list[str]:
    jobs = simulation.all_jobs("collect")
    return [
        key for job in jobs for key in arguments(job)[arguments(job).index("--after-build") + 1 :]
    ]


def test_artefacts_of_a_deleted_model_are_collected_if_nobody_needs_them() -> None:
    simulation = sharing(("b", tp(2)), ("c", {}))
    keys = {name: simulation.status_of(name).engine.active for name in "abc"}
    assert keys["a"] == keys["c"] != keys["b"]
    for name in "bc":
        simulation.server.discard(ObjectRef(KIND, name))
    simulation.settle()
    assert list_collected(simulation) == [keys["b"]]
    assert simulation.phase == Phase.SERVING


def test_a_model_that_is_not_understood_is_not_deleted() -> None:
    simulation = sharing(("b", tp(2)))
    simulation.edit({"engine": {"backend": "abacus"}, **SHARED}, "b")
    simulation.settle()
    assert simulation.reason("Accepted", "b") == "InvalidSpec"
    assert list_collected(simulation) == []


def test_network_policies_go_when_they_are_switched_off() -> None:
    simulation = served()
    assert ObjectRef("NetworkPolicy", "a") in simulation.objects
    simulation.restart(replace(SETTINGS, network=replace(SETTINGS.network, enabled=False)))
    simulation.settle()
    assert not [ref for ref in simulation.objects if ref.kind == "NetworkPolicy"]


def test_the_fake_kubelet_builds_another_key_for_another_spec() -> None:
    pod = {"metadata": {"annotations": {"serving.llmjp.dev/build-spec": "{}"}}}
    with pytest.raises(KeyError):
        make_artefact(pod)
    assert hash_text("a") != hash_text("b")
