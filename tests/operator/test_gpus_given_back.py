"""GPUs that pods hold in vain are given back, and a build that cannot get any says why."""

from __future__ import annotations

from dataclasses import replace

from e2e.fake_kubelet import succeed
from llmjp_operator.api import Phase
from llmjp_operator.observe.snapshot import ObjectRef
from tests.operator.factories import SETTINGS
from tests.operator.fake_workloads import Script, only
from tests.operator.model_bodies import Object, merge_patch
from tests.operator.simulation import Simulation

COMPILED: Object = {
    "engine": {"backend": "tensorrt", "maxSeqLen": 512},
    "hardware": {"gpuProduct": "NVIDIA-H100-80GB-HBM3"},
    "serving": {"maxSurge": 0},
}
OTHER = merge_patch(COMPILED, {"engine": {"maxSeqLen": 256}})
DEPLOYMENT = ObjectRef("Deployment", "a")
NODE = {
    "kind": "Node",
    "metadata": {"name": "n", "labels": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}},
    "status": {"allocatable": {"nvidia.com/gpu": "1"}},
}
UNSCHEDULABLE = {
    "phase": "Pending",
    "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}],
}


def compiling(status: Object) -> Script:
    """Return a script in which everything goes well but the Jobs that need GPUs."""

    def script(pod: Object) -> Object | None:
        limits = pod["spec"]["containers"][0]["resources"].get("limits", {})
        build = pod["metadata"]["labels"]["app.kubernetes.io/component"] == "build"
        return status if build and "nvidia.com/gpu" in limits else succeed(pod)

    return script


def one_gpu(simulation: Simulation) -> Script:
    """Return a script in which builds wait for the GPU of the pods that serve."""

    def script(pod: Object) -> Object | None:
        build = pod["metadata"]["labels"]["app.kubernetes.io/component"] == "build"
        return UNSCHEDULABLE if build and holds_gpu(simulation) else succeed(pod)

    return script


def holds_gpu(simulation: Simulation) -> bool:
    deployment = simulation.objects.get(DEPLOYMENT)
    return deployment is not None and deployment["spec"]["replicas"] > 0


def test_a_first_engine_that_never_became_ready_makes_room_for_the_next() -> None:
    simulation = Simulation(COMPILED, script=only("serving", {"phase": "Running"}))
    simulation.settle()
    assert simulation.reason("Progressing") == "RolloutStalled"
    simulation.workloads.script = one_gpu(simulation)
    simulation.edit(OTHER)
    simulation.run_for(60)
    assert simulation.phase == Phase.SERVING


def test_what_serves_is_kept_while_another_engine_is_built() -> None:
    simulation = Simulation(COMPILED)
    simulation.settle()
    uid = simulation.objects[DEPLOYMENT]["metadata"]["uid"]
    simulation.workloads.script = one_gpu(simulation)
    simulation.edit(OTHER)
    simulation.run_for(60)
    assert simulation.objects[DEPLOYMENT]["metadata"]["uid"] == uid


def test_a_build_says_who_holds_its_gpus_and_goes_on_when_they_are_given_back() -> None:
    simulation = Simulation(COMPILED)
    simulation.settle()
    for ref, pod in list(simulation.objects.items()):
        if ref.kind == "Pod" and ref.name.startswith("a-"):
            simulation.server.put(merge_patch(pod, {"spec": {"nodeName": "n"}}))
    simulation.server.node_list = [NODE]
    simulation.workloads.script = one_gpu(simulation)
    simulation.edit(OTHER)
    simulation.run_for(60)
    assert "set spec.serving.replicas: 0 for the build" in simulation.message("EngineReady")
    simulation.edit(merge_patch(OTHER, {"serving": {"replicas": 0}}))
    simulation.run_for(60)
    simulation.edit(OTHER)
    simulation.run_for(60)
    assert simulation.phase == Phase.SERVING


def test_a_build_says_that_no_node_is_large_enough() -> None:
    several = {"engine": {"tensorParallel": 4}, "hardware": {"gpusPerNode": 8}}
    simulation = Simulation(merge_patch(COMPILED, several), script=compiling(UNSCHEDULABLE))
    simulation.server.node_list = [NODE]
    simulation.run_for(60)
    assert "no node that it may go to has more than 1" in simulation.message("EngineReady")


def test_scaling_to_zero_works_where_the_pods_cannot_be_rendered() -> None:
    simulation = Simulation(COMPILED)
    simulation.settle()
    images = {"cpu": SETTINGS.images["cpu"]}
    simulation.restart(replace(SETTINGS, images=images))
    simulation.settle()
    assert holds_gpu(simulation)
    simulation.edit(merge_patch(COMPILED, {"serving": {"replicas": 0}}))
    simulation.settle()
    assert not holds_gpu(simulation)
    simulation.restart(SETTINGS)
    simulation.edit(COMPILED)
    simulation.settle()
    assert simulation.phase == Phase.SERVING
    assert not simulation.errors


def test_a_deployment_of_somebody_else_is_left_alone() -> None:
    simulation = Simulation(COMPILED, script=only("serving", {"phase": "Running"}))
    simulation.settle()
    theirs = simulation.objects[DEPLOYMENT]
    owners = [{"kind": "LlmJpModel", "name": "b", "uid": "theirs"}]
    metadata = {**theirs["metadata"], "ownerReferences": owners}
    simulation.server.put({**theirs, "metadata": metadata})
    simulation.workloads.script = only("build", UNSCHEDULABLE)
    simulation.edit(OTHER)
    simulation.run_for(60)
    assert DEPLOYMENT in simulation.objects
