"""The controller: what it reads and when it reads it again, and what it does when calls fail."""

from __future__ import annotations

import json

import pytest

from e2e.fake_kubelet import make_ended_status, succeed
from llmjp_operator.act import controller
from llmjp_operator.act.snapshot_reader import FORGET_S, NODES_EVERY_S
from llmjp_operator.api import Phase
from llmjp_operator.decide.requeue import POLL_EVERY_S, PROGRESS_EVERY_S
from llmjp_operator.errors import ApiRefused, ApiUnreachable
from llmjp_operator.names import MODEL_LABEL
from llmjp_operator.observe.snapshot import ObjectRef
from tests.operator.fake_workloads import only
from tests.operator.model_bodies import Object
from tests.operator.simulation import Simulation

H100 = "NVIDIA-H100-80GB-HBM3"
ENGINE: Object = {
    "engine": {"backend": "tensorrt", "tensorParallel": 4, "maxSeqLen": 512},
    "hardware": {"gpuProduct": H100},
    "storage": {"size": "1Gi", "accessMode": "ReadWriteOnce"},
    "serving": {"maxSurge": 0},
}


def tp(ranks: int) -> Object:
    return {"engine": {"backend": "torch", "maxSeqLen": 512, "tensorParallel": ranks}}


def a_node(gpus: int = 8, capability: str = "9.0") -> Object:
    major, _, minor = capability.partition(".")
    labels = {
        "nvidia.com/gpu.product": H100,
        "nvidia.com/gpu.compute.major": major,
        "nvidia.com/gpu.compute.minor": minor,
    }
    return {
        "metadata": {"name": "n", "labels": labels},
        "spec": {},
        "status": {"allocatable": {"nvidia.com/gpu": str(gpus)}},
    }


def only_resolving(pod: Object) -> Object | None:
    """Sources are pinned; nothing is built."""
    component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
    return succeed(pod) if component == "resolve" else None


def building(pod: Object) -> Object | None:
    """Builds run and do not end."""
    component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
    return {"phase": "Running"} if component == "build" else succeed(pod)


def told(world: Simulation, reason: str) -> list[str]:
    return [event["type"] for event in world.server.events if event["reason"] == reason]


# Nodes


def on_nodes(*nodes: Object) -> Simulation:
    world = Simulation(ENGINE)
    world.server.node_list = list(nodes)
    return world


def test_pods_are_made_for_nodes_as_they_are_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as they were some seconds ago: their GPUs may have been exchanged since."""
    monkeypatch.setattr(controller, "NODES_AFRESH_S", -1.0)
    world = on_nodes(a_node(gpus=8))
    world.step()
    assert world.jobs

    world.server.node_list = [a_node(gpus=2)]
    world.edit(ENGINE, "b")
    world.step("b")
    assert [job.model for job in world.jobs] == ["a"]
    assert world.reason("Accepted", "b") == "StorageWouldDeadlock"


def test_many_models_need_few_lists_of_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    world = on_nodes(a_node())
    lists = 0

    async def list_nodes() -> list[Object]:
        nonlocal lists
        lists += 1
        return [a_node()]

    monkeypatch.setattr(world.server, "list_nodes", list_nodes)
    for i in range(20):
        world.edit(ENGINE, f"model-{i}")
        world.step(f"model-{i}")
    assert lists <= 3


def test_an_engine_that_does_not_fit_the_nodes_is_looked_at_again() -> None:
    """No watch tells of nodes."""
    world = on_nodes(a_node(capability="8.9"))
    world.run_for(60)
    assert world.reason("EngineReady") == "Incompatible"
    assert world.phase == Phase.FAILED
    world.server.node_list = [a_node()]
    world.run_for(POLL_EVERY_S + NODES_EVERY_S + 1)
    assert world.phase == Phase.SERVING


def test_a_claim_that_is_missing_is_looked_for_again() -> None:
    storage: Object = {"storage": {"size": None, "existingClaim": "theirs"}}
    world = Simulation(storage)
    world.run_for(60)
    assert world.reason("Accepted") == "ClaimMissing"
    claim = {"kind": "PersistentVolumeClaim", "metadata": {"name": "theirs"}, "spec": {}}
    world.server.put(claim)
    world.run_for(POLL_EVERY_S + 1)
    assert world.phase == Phase.SERVING


# Progress


def progress(step: str, percent: float) -> str:
    return json.dumps({"step": step, "percent": percent, "eta_seconds": None})


def test_the_progress_of_a_build_is_read_now_and_then() -> None:
    world = Simulation(script=building)
    world.run_for(1)
    [pod] = [ref.name for ref in world.objects if ref.kind == "Pod" and "build" in ref.name]
    world.server.logs[pod] = f"{progress('fetch', 7)}\n{progress('convert', 41.9)}\nshard 3 of 8\n"
    world.run_for(60)
    assert (world.status.build.step, world.status.build.percent) == ("convert", 41)
    assert len(world.server.log_reads) <= 60 / PROGRESS_EVERY_S + 2
    world.server.logs[pod] = "nothing that is progress"
    world.run_for(60)
    assert world.status.build.percent == 41, "what it said last holds"


def test_the_progress_of_builds_that_are_over_is_forgotten() -> None:
    world = Simulation(script=building)
    for ranks in (1, 2, 4):
        world.edit(tp(ranks))
        world.run_for(FORGET_S + 60)
    assert len(set(world.server.log_reads)) == 3
    assert len(world.operator.controller.snapshots._progress) == 1


# Builds that end without a word


def killed(pod: Object) -> Object | None:
    """Builds are killed for their memory."""
    if pod["metadata"]["labels"]["app.kubernetes.io/component"] != "build":
        return succeed(pod)
    return out_of_memory()


def out_of_memory() -> Object:
    status = make_ended_status("", 137)
    status["containerStatuses"][0]["state"]["terminated"]["reason"] = "OOMKilled"
    return status


def compiling() -> tuple[Simulation, str]:
    """Return a model whose build has just been seen to convert; in its log it compiles."""
    world = Simulation(script=building)
    world.run_for(1)
    [pod] = [ref.name for ref in world.objects if ref.kind == "Pod" and "build" in ref.name]
    world.server.logs[pod] = progress("convert", 99)
    world.run_for(2 * PROGRESS_EVERY_S)
    assert world.status.build.step == "convert"
    world.server.logs[pod] = f"{progress('convert', 99)}\n{progress('compile', 1)}\nengine 1 of 4"
    return world, pod


def failed_step(world: Simulation) -> str:
    failure = world.status.build.failure
    assert failure is not None
    assert f"in step {failure.step}" in world.message("Progressing")
    return failure.step


@pytest.mark.parametrize("restarted", [False, True])
def test_a_build_that_was_killed_names_the_step_that_its_log_ends_with(restarted: bool) -> None:
    world, _ = compiling()
    world.workloads.script = killed
    world.workloads.advance(world.now)
    if restarted:
        world.restart()
    world.settle()
    assert world.reason("EngineReady") == "BuildFailed"
    assert failed_step(world) == "compile"
    assert "spec.build.resources.limits.memory" in world.message("EngineReady")


@pytest.mark.parametrize("restarted", [False, True])
def test_a_log_that_cannot_be_read_does_not_keep_a_failure_back(
    restarted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was seen last is named then; after a restart the status remembers it."""
    world, _ = compiling()

    async def unreachable(*_: object) -> str:
        raise ApiUnreachable("the node does not answer")

    monkeypatch.setattr(world.server, "read_log", unreachable)
    world.workloads.script = killed
    world.workloads.advance(world.now)
    if restarted:
        world.restart()
    world.settle()
    assert failed_step(world) == "convert"


@pytest.mark.parametrize("restarted", [False, True])
def test_a_build_whose_pod_is_gone_names_the_step_seen_last(restarted: bool) -> None:
    world, pod = compiling()
    [job] = [job for job in world.jobs if job.component == "build"]
    ref = ObjectRef("Job", job.name)
    failed = {"conditions": [{"type": "Failed", "status": "True"}]}
    world.server.discard(ObjectRef("Pod", pod))
    world.step()
    world.server.put({**world.objects[ref], "status": failed})
    world.step()
    if restarted:
        world.restart()
    world.workloads.script = lambda _: None
    world.run_for(1)
    failure = world.status.build.failure
    assert failure is not None
    assert (failure.code, failure.step) == ("pod_lost", "convert")


def test_a_resolve_job_that_was_killed_has_no_steps_to_name() -> None:
    world = Simulation(script=only("resolve", out_of_memory()))
    world.settle()
    assert world.reason("EngineReady") == "ResolveFailed"
    message = world.message("EngineReady")
    assert "in step" not in message
    assert "spec." not in message, "no field changes a resolve Job"


# Calls that are refused


def refuses(world: Simulation, kind: str, status: int = 403, message: str = "quota") -> None:
    world.server.refuse = lambda wanted: (
        ApiRefused(status, f"PATCH {kind}", message) if wanted["kind"] == kind else None
    )


def test_nothing_follows_from_what_could_not_be_recorded() -> None:
    world = Simulation()
    refuses(world, "ConfigMap")
    world.run_for(30)
    assert {ref.name for ref in world.objects if ref.kind == "Job"} == {"a-resolve-69c872af"}
    assert world.phase == Phase.RESOLVING, "the status says nothing that is not recorded either"
    assert len(world.errors) > 3
    world.server.refuse = lambda _: None
    world.settle()
    assert world.phase == Phase.SERVING


def test_a_refusal_that_needs_a_person_is_a_warning_and_passes() -> None:
    world = Simulation()
    refuses(world, "Deployment")
    world.run_for(30)
    assert world.reason("Progressing") == "Hindered"
    assert told(world, "Hindered") == ["Warning"], "once"
    assert ObjectRef("Service", "a") in world.objects, "what can be written is written"
    world.server.refuse = lambda _: None
    world.settle()
    assert world.phase == Phase.SERVING


def test_a_conflict_is_tried_again_and_nobody_is_told() -> None:
    world = Simulation()
    refuses(world, "Deployment", 409, "conflict")
    world.run_for(30)
    assert world.reason("Progressing") == "RollingOut"
    assert world.errors
    assert not told(world, "Hindered")


def test_a_namespace_that_is_going_is_left_alone() -> None:
    world = Simulation()
    refuses(world, "Job", 403, "unable to create: namespace ns is being terminated")
    world.settle()
    assert not world.errors
    assert world.step() is None, "and is not looked at again"


def test_a_model_that_was_deleted_meanwhile_needs_no_status() -> None:
    world = Simulation()
    world.server.discard(ObjectRef("LlmJpModel", "a"))
    world.server.watched.clear()
    world.step()
    assert not world.errors


# What is stored


def test_what_an_admission_webhook_changes_is_written_once() -> None:
    """What is stored never equals what was applied; that is no reason to apply it for ever."""
    world = Simulation()
    world.server.admit = lambda wanted: (
        {**wanted, "spec": {**wanted["spec"], "type": "ClusterIP", "sessionAffinity": "ClientIP"}}
        if wanted["kind"] == "Service"
        else wanted
    )
    world.settle()
    writes = world.writes
    world.step()
    assert world.writes == writes


def test_what_was_written_is_known_before_a_watch_tells_of_it() -> None:
    world = Simulation()
    world.step()
    world.watches_are_late = True
    writes = world.writes
    for _ in range(3):
        world.step()
    assert world.writes == writes


def test_what_somebody_changed_is_put_right() -> None:
    world = Simulation()
    world.settle()
    budget = world.objects[ObjectRef("PodDisruptionBudget", "a")]
    world.server.discard(ObjectRef("PodDisruptionBudget", "a"))
    world.settle()
    assert world.objects[ObjectRef("PodDisruptionBudget", "a")]["spec"] == budget["spec"]


def made_by_an_older_version(kind: str, name: str, world: Simulation) -> ObjectRef:
    """Store an object like the model's own, under a name that is not used any more."""
    like = next(body for ref, body in world.objects.items() if ref.kind == kind)
    labels = like["metadata"]["labels"]
    assert labels[MODEL_LABEL] == "a"
    world.server.put({**like, "metadata": {"name": name, "labels": labels}})
    return ObjectRef(kind, name)


@pytest.mark.parametrize(
    ("kind", "goes"),
    [
        ("NetworkPolicy", True),
        ("Service", True),
        ("PodDisruptionBudget", True),
        ("PersistentVolumeClaim", False),
        ("ServiceAccount", False),
        ("ConfigMap", False),
    ],
)
def test_what_an_older_version_made_goes_if_it_only_gets_in_the_way(kind: str, goes: bool) -> None:
    world = Simulation()
    world.settle()
    older = made_by_an_older_version(kind, "older", world)
    world.settle()
    assert (older not in world.objects) == goes


def test_nothing_is_pruned_while_nothing_new_is_begun() -> None:
    world = Simulation()
    world.settle()
    world.edit({"engine": {"backend": "vllm"}, "hardware": {"gpuProduct": H100}})
    world.settle()
    assert world.reason("Accepted") == "BackendNotServed"
    older = made_by_an_older_version("Service", "older", world)
    world.settle()
    assert older in world.objects


# Models on one store


def test_a_build_that_two_models_need_is_made_once_and_outlives_the_first() -> None:
    shared: Object = {"storage": {"size": None, "existingClaim": "shared"}}
    world = Simulation(shared, script=only_resolving)
    world.server.put({"kind": "PersistentVolumeClaim", "metadata": {"name": "shared"}, "spec": {}})
    world.edit(shared, "b")
    world.run_for(5)
    [build] = [job for job in world.jobs if job.component == "build"]
    assert len(build.owners) == 2
    world.server.discard(ObjectRef("LlmJpModel", "a"))
    world.run_for(5)
    assert [job.name for job in world.jobs if job.component == "build"] == [build.name]
    world.workloads.script = succeed
    world.settle()
    assert world.status_of("b").phase == Phase.SERVING
    assert len(world.all_jobs("build")) == 1


def test_a_model_that_is_not_understood_says_so_and_recovers() -> None:
    world = Simulation()
    world.settle()
    world.edit({"engine": {"backend": "torch", "maxSeqLen": 512, "unheardOf": 1}})
    world.settle()
    assert (world.reason("Accepted"), world.phase) == ("InvalidSpec", Phase.DEGRADED)
    world.edit()
    world.settle()
    assert world.phase == Phase.SERVING


def test_results_that_cannot_be_read_are_failures() -> None:
    world = Simulation(script=lambda pod: make_ended_status("not JSON"))
    world.run_for(5)
    failure = world.status.build.failure
    assert failure is not None
    assert failure.code == "internal"
