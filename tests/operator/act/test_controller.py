"""The controller: when it looks again, and what it does when calls fail."""

from __future__ import annotations

import pytest

from e2e.fake_kubelet import make_ended_status, succeed
from llmjp_operator.act import controller
from llmjp_operator.act.snapshot_reader import NODES_EVERY_S
from llmjp_operator.api import Phase
from llmjp_operator.decide.requeue import POLL_EVERY_S
from llmjp_operator.errors import ApiRefused
from llmjp_operator.names import MODEL_LABEL
from llmjp_operator.observe.snapshot import ObjectRef
from tests.operator.model_bodies import Object
from tests.operator.simulation import Simulation
from tests.operator.test_lifecycle import tp

H100 = "NVIDIA-H100-80GB-HBM3"
ENGINE: Object = {
    "engine": {"backend": "tensorrt", "tensorParallel": 4, "maxSeqLen": 512},
    "hardware": {"gpuProduct": H100},
    "storage": {"size": "1Gi", "accessMode": "ReadWriteOnce"},
    "serving": {"maxSurge": 0},
}


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


def told(simulation: Simulation, reason: str) -> list[str]:
    return [event["type"] for event in simulation.server.events if event["reason"] == reason]


# Nodes


def on_nodes(*nodes: Object) -> Simulation:
    simulation = Simulation(ENGINE)
    simulation.server.node_list = list(nodes)
    return simulation


def test_pods_are_made_for_nodes_as_they_are_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as they were some seconds ago: their GPUs may have been exchanged since."""
    monkeypatch.setattr(controller, "NODES_AFRESH_S", -1.0)
    simulation = on_nodes(a_node(gpus=8))
    simulation.step()
    assert simulation.jobs

    simulation.server.node_list = [a_node(gpus=2)]
    simulation.edit(ENGINE, "b")
    simulation.step("b")
    assert [job.model for job in simulation.jobs] == ["a"]
    assert simulation.reason("Accepted", "b") == "StorageWouldDeadlock"


def test_many_models_need_few_lists_of_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = on_nodes(a_node())
    lists = 0

    async def list_nodes() -> list[Object]:
        nonlocal lists
        lists += 1
        return [a_node()]

    monkeypatch.setattr(simulation.server, "list_nodes", list_nodes)
    for i in range(20):
        simulation.edit(ENGINE, f"model-{i}")
        simulation.step(f"model-{i}")
    assert lists <= 3


def test_an_engine_that_does_not_fit_the_nodes_is_looked_at_again() -> None:
    """No watch tells of nodes."""
    simulation = on_nodes(a_node(capability="8.9"))
    simulation.run_for(60)
    assert simulation.reason("EngineReady") == "Incompatible"
    assert simulation.phase == Phase.FAILED
    simulation.server.node_list = [a_node()]
    simulation.run_for(POLL_EVERY_S + NODES_EVERY_S + 1)
    assert simulation.phase == Phase.SERVING


def test_a_claim_that_is_missing_is_looked_for_again() -> None:
    storage: Object = {"storage": {"size": None, "existingClaim": "theirs"}}
    simulation = Simulation(storage)
    simulation.run_for(60)
    assert simulation.reason("Accepted") == "ClaimMissing"
    claim = {"kind": "PersistentVolumeClaim", "metadata": {"name": "theirs"}, "spec": {}}
    simulation.server.put(claim)
    simulation.run_for(POLL_EVERY_S + 1)
    assert simulation.phase == Phase.SERVING


# Calls that are refused


def refuses(simulation: Simulation, kind: str, status: int = 403, message: str = "quota") -> None:
    simulation.server.refuse = lambda wanted: (
        ApiRefused(status, f"PATCH {kind}", message) if wanted["kind"] == kind else None
    )


def test_nothing_follows_from_what_could_not_be_recorded() -> None:
    simulation = Simulation()
    refuses(simulation, "ConfigMap")
    simulation.run_for(30)
    assert {ref.name for ref in simulation.objects if ref.kind == "Job"} == {"a-resolve-69c872af"}
    assert simulation.phase == Phase.RESOLVING, (
        "the status says nothing that is not recorded either"
    )
    assert len(simulation.errors) > 3
    simulation.server.refuse = lambda _: None
    simulation.settle()
    assert simulation.phase == Phase.SERVING


def test_a_refusal_that_needs_a_person_is_a_warning_and_passes() -> None:
    simulation = Simulation()
    refuses(simulation, "Deployment")
    simulation.run_for(30)
    assert simulation.reason("Progressing") == "Hindered"
    assert told(simulation, "Hindered") == ["Warning"], "once"
    assert ObjectRef("Service", "a") in simulation.objects, "what can be written is written"
    simulation.server.refuse = lambda _: None
    simulation.settle()
    assert simulation.phase == Phase.SERVING


def test_a_conflict_is_tried_again_and_nobody_is_told() -> None:
    simulation = Simulation()
    refuses(simulation, "Deployment", 409, "conflict")
    simulation.run_for(30)
    assert simulation.reason("Progressing") == "RollingOut"
    assert simulation.errors
    assert not told(simulation, "Hindered")


def test_a_namespace_that_is_going_is_left_alone() -> None:
    simulation = Simulation()
    refuses(simulation, "Job", 403, "unable to create: namespace ns is being terminated")
    simulation.settle()
    assert not simulation.errors
    assert simulation.step() is None, "and is not looked at again"


def test_a_model_that_was_deleted_meanwhile_needs_no_status() -> None:
    simulation = Simulation()
    simulation.server.discard(ObjectRef("LlmJpModel", "a"))
    simulation.server.watched.clear()
    simulation.step()
    assert not simulation.errors


# What is stored


def test_what_an_admission_webhook_changes_is_written_once() -> None:
    """What is stored never equals what was applied; that is no reason to apply it for ever."""
    simulation = Simulation()
    simulation.server.admit = lambda wanted: (
        {**wanted, "spec": {**wanted["spec"], "type": "ClusterIP", "sessionAffinity": "ClientIP"}}
        if wanted["kind"] == "Service"
        else wanted
    )
    simulation.settle()
    writes = simulation.writes
    simulation.step()
    assert simulation.writes == writes


def test_what_was_written_is_known_before_a_watch_tells_of_it() -> None:
    simulation = Simulation()
    simulation.step()
    simulation.watches_are_late = True
    writes = simulation.writes
    for _ in range(3):
        simulation.step()
    assert (simulation.writes, simulation.errors) == (writes, [])


def test_what_somebody_changed_is_put_right() -> None:
    simulation = Simulation()
    simulation.settle()
    budget = simulation.objects[ObjectRef("PodDisruptionBudget", "a")]
    simulation.server.discard(ObjectRef("PodDisruptionBudget", "a"))
    simulation.settle()
    assert simulation.objects[ObjectRef("PodDisruptionBudget", "a")]["spec"] == budget["spec"]


def made_by_an_older_version(kind: str, name: str, simulation: Simulation) -> ObjectRef:
    """Store an object like the model's own, under a name that is not used any more."""
    like = next(body for ref, body in simulation.objects.items() if ref.kind == kind)
    metadata = like["metadata"]
    assert metadata["labels"][MODEL_LABEL] == "a"
    kept = ("labels", "annotations", "ownerReferences")
    whose = {part: metadata[part] for part in kept if part in metadata}
    simulation.server.put({**like, "metadata": {"name": name, **whose}})
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
    simulation = Simulation()
    simulation.settle()
    older = made_by_an_older_version(kind, "older", simulation)
    simulation.settle()
    assert (older not in simulation.objects) == goes


def test_nothing_is_pruned_while_nothing_new_is_begun() -> None:
    simulation = Simulation()
    simulation.settle()
    simulation.edit({"engine": {"backend": "vllm"}, "hardware": {"gpuProduct": H100}})
    simulation.settle()
    assert simulation.reason("Accepted") == "BackendNotServed"
    older = made_by_an_older_version("Service", "older", simulation)
    simulation.settle()
    assert older in simulation.objects


@pytest.mark.parametrize("kind", ["PersistentVolumeClaim", "NetworkPolicy", "ServiceAccount"])
def test_no_pod_is_made_before_what_it_needs(kind: str) -> None:
    simulation = Simulation()
    simulation.server.refuse = lambda wanted: (
        ApiRefused(403, "PATCH", "exceeded quota") if wanted["kind"] == kind else None
    )
    simulation.run_for(60)
    assert simulation.jobs == []
    assert simulation.reason("Progressing") == "Hindered"
    simulation.server.refuse = lambda _: None
    simulation.run_for(200)
    assert simulation.phase == Phase.SERVING


@pytest.mark.parametrize("served", [True, False], ids=["there", "new"])
@pytest.mark.parametrize("kind", ["Service", "Deployment", "Job"])
def test_an_object_that_is_invalid_is_told_in_the_api_servers_words(
    kind: str, served: bool
) -> None:
    simulation = Simulation()
    if served:
        simulation.settle()
    words = "spec.template: Invalid value: it makes no sense"
    simulation.server.refuse = lambda wanted: (
        ApiRefused(422, "PATCH", words) if wanted["kind"] == kind else None
    )
    simulation.edit({"serving": {"maxQueue": 7, "service": {"type": "NodePort"}}, **tp(2)})
    simulation.run_for(60)
    assert simulation.reason("Progressing") == "Hindered"
    assert words in simulation.message("Progressing")
    assert simulation.reason("Ready") == "Hindered"


# Models on one store


def test_a_build_that_two_models_need_is_made_once_and_outlives_the_first() -> None:
    shared: Object = {"storage": {"size": None, "existingClaim": "shared"}}
    simulation = Simulation(shared, script=only_resolving)
    simulation.server.put(
        {"kind": "PersistentVolumeClaim", "metadata": {"name": "shared"}, "spec": {}}
    )
    simulation.edit(shared, "b")
    simulation.run_for(5)
    [build] = [job for job in simulation.jobs if job.component == "build"]
    assert len(build.owners) == 2
    simulation.server.discard(ObjectRef("LlmJpModel", "a"))
    simulation.run_for(5)
    assert [job.name for job in simulation.jobs if job.component == "build"] == [build.name]
    simulation.workloads.script = succeed
    simulation.settle()
    assert simulation.status_of("b").phase == Phase.SERVING
    assert len(simulation.all_jobs("build")) == 1


def test_a_model_that_is_not_understood_says_so_and_recovers() -> None:
    simulation = Simulation()
    simulation.settle()
    simulation.edit({"engine": {"backend": "torch", "maxSeqLen": 512, "unheardOf": 1}})
    simulation.settle()
    assert (simulation.reason("Accepted"), simulation.phase) == ("InvalidSpec", Phase.DEGRADED)
    simulation.edit()
    simulation.settle()
    assert simulation.phase == Phase.SERVING


def test_results_that_cannot_be_read_are_failures() -> None:
    simulation = Simulation(script=lambda pod: make_ended_status("not JSON"))
    simulation.run_for(5)
    failure = simulation.status.build.failure
    assert failure is not None
    assert failure.code == "internal"
