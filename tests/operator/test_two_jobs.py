"""An engine is built by two Jobs: one fetches and converts without a GPU, the other compiles."""

from __future__ import annotations

import json
from typing import Any

import pytest

from e2e.fake_kubelet import make_ended_status, succeed
from llmjp_operator.api import Phase
from llmjp_operator.names import FROM_CHECKPOINT, UNTIL
from tests.operator.fake_workloads import Script
from tests.operator.model_bodies import Object, merge_patch
from tests.operator.simulation import Simulation

COMPILED: Object = {
    "engine": {"backend": "tensorrt", "maxSeqLen": 512},
    "hardware": {"gpuProduct": "NVIDIA-H100-80GB-HBM3"},
}
OTHER_LIMITS = merge_patch(COMPILED, {"engine": {"maxBatchSize": 8}})
FP8 = merge_patch(COMPILED, {"engine": {"quantization": "fp8"}})
GPU = "nvidia.com/gpu"


def fail(code: str, *, retryable: bool = False) -> Object:
    failure = {"code": code, "step": "compile", "message": "why", "retryable": retryable}
    return make_ended_status(failure, exit_code=1)


def steps(checkpoint: Object | None = None, engine: Object | None = None) -> Script:
    """Return a script in which the Jobs of an engine end as told, and all else well."""

    def script(pod: Object) -> Object | None:
        arguments = pod["spec"]["containers"][0]["args"]
        if checkpoint is not None and "--until" in arguments:
            return checkpoint
        if engine is not None and "--from-checkpoint" in arguments:
            return engine
        return succeed(pod)

    return script


def list_builds(simulation: Simulation) -> list[Object]:
    """Return every build Job that was ever made, in order."""
    jobs = simulation.workloads.jobs.values()
    return [j for j in jobs if j["metadata"]["labels"]["app.kubernetes.io/component"] == "build"]


def get_gpus(job: Object) -> int:
    [container] = job["spec"]["template"]["spec"]["containers"]
    return int(container["resources"].get("limits", {}).get(GPU, 0))


def annotation(job: Object, name: str) -> str | None:
    found: str | None = job["metadata"]["annotations"].get(name)
    return found


def entries(simulation: Simulation, prefix: str) -> dict[str, Any]:
    [record] = [body for ref, body in simulation.objects.items() if ref.kind == "ConfigMap"]
    return {k: json.loads(v) for k, v in record["data"].items() if k.startswith(prefix)}


def test_only_compiling_asks_for_gpus() -> None:
    simulation = Simulation(COMPILED)
    simulation.settle()
    assert simulation.phase == Phase.SERVING
    checkpoint, engine = list_builds(simulation)
    assert annotation(checkpoint, UNTIL) == "checkpoint"
    assert get_gpus(checkpoint) == 0
    assert get_gpus(engine) == 1
    [made] = entries(simulation, "checkpoint-").values()
    assert annotation(engine, FROM_CHECKPOINT) == made["key"]


@pytest.mark.parametrize(("gpu", "gpus"), [(False, 0), (True, 1)])
def test_calibration_gets_a_gpu_where_it_is_asked_for(gpu: bool, gpus: int) -> None:
    simulation = Simulation(merge_patch(FP8, {"build": {"calibration": {"gpu": gpu}}}))
    simulation.settle()
    assert [get_gpus(job) for job in list_builds(simulation)] == [gpus, 1]


def test_scales_of_other_backends_are_measured_on_a_gpu_as_well() -> None:
    changes = {
        "engine": {"backend": "torch", "quantization": "fp8"},
        "build": {"calibration": {"gpu": True}},
    }
    simulation = Simulation(changes)
    simulation.settle()
    assert [get_gpus(job) for job in list_builds(simulation)] == [1]


def test_other_limits_take_the_checkpoint_that_is_there() -> None:
    simulation = Simulation(COMPILED)
    simulation.settle()
    simulation.edit(OTHER_LIMITS)
    simulation.settle()
    assert simulation.phase == Phase.SERVING
    made = [annotation(job, UNTIL) for job in list_builds(simulation)]
    assert made == ["checkpoint", None, None]


def test_two_models_share_a_checkpoint() -> None:
    shared = {"storage": {"size": None, "existingClaim": "shared"}}
    simulation = Simulation(merge_patch(COMPILED, shared))
    simulation.server.put(
        {"kind": "PersistentVolumeClaim", "metadata": {"name": "shared"}, "spec": {}}
    )
    simulation.edit(merge_patch(OTHER_LIMITS, shared), name="b")
    simulation.settle()
    assert simulation.status_of("b").phase == Phase.SERVING
    assert [annotation(job, UNTIL) for job in list_builds(simulation)].count("checkpoint") == 1


def test_a_failed_compilation_converts_nothing_again() -> None:
    simulation = Simulation(COMPILED, script=steps(engine=fail("not_enough_gpu_memory")))
    simulation.settle()
    assert simulation.phase == Phase.FAILED
    simulation.workloads.script = succeed
    simulation.edit(COMPILED, retry="once more")
    simulation.settle()
    assert simulation.phase == Phase.SERVING
    made = [annotation(job, UNTIL) for job in list_builds(simulation)]
    assert made == ["checkpoint", None, None]


def test_a_failed_conversion_asks_for_no_gpu() -> None:
    simulation = Simulation(COMPILED, script=steps(checkpoint=fail("bad_tensors")))
    simulation.settle()
    assert simulation.phase == Phase.FAILED
    assert "bad_tensors" in simulation.message("EngineReady")
    assert [get_gpus(job) for job in list_builds(simulation)] == [0]
    simulation.workloads.script = succeed
    simulation.edit(COMPILED, retry="mended")
    simulation.settle()
    assert simulation.phase == Phase.SERVING


def test_a_checkpoint_that_is_gone_is_made_again() -> None:
    """Somebody removed it from the store; its Job is still there and says that it was made."""
    simulation = Simulation(COMPILED)
    simulation.settle()
    simulation.now += 60
    simulation.workloads.script = steps(engine=fail("checkpoint_missing", retryable=True))
    simulation.edit(OTHER_LIMITS)
    simulation.run_for(1)
    simulation.workloads.script = succeed
    simulation.settle()
    assert simulation.phase == Phase.SERVING
    made = [annotation(job, UNTIL) for job in list_builds(simulation)]
    assert made == ["checkpoint", None, None, "checkpoint", None]


@pytest.mark.parametrize("writes", range(1, 22))
def test_it_goes_on_after_any_kill(writes: int) -> None:
    simulation = Simulation(COMPILED).fork(kill_after=writes)
    simulation.settle()
    assert simulation.phase == Phase.SERVING
    assert [annotation(job, UNTIL) for job in list_builds(simulation)] == ["checkpoint", None]


def test_a_lost_record_is_found_again_by_the_same_two_steps() -> None:
    simulation = Simulation(COMPILED)
    simulation.settle()
    before = simulation.status.engine
    [record] = [ref for ref in simulation.objects if ref.kind == "ConfigMap"]
    simulation.server.discard(record)
    simulation.settle()
    assert simulation.phase == Phase.SERVING
    assert simulation.status.engine.active == before.active
    assert entries(simulation, "checkpoint-") != {}
