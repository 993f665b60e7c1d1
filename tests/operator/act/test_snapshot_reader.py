"""Progress of builds: when a log is read, and the step that a build ended in without a word."""

from __future__ import annotations

import json

import pytest

from e2e.fake_kubelet import make_ended_status, succeed
from llmjp_operator.act.snapshot_reader import FORGET_S
from llmjp_operator.decide.job_results import LOST_AFTER_S
from llmjp_operator.decide.jobs import LOOK_AGAIN_S
from llmjp_operator.decide.requeue import PROGRESS_EVERY_S
from llmjp_operator.errors import ApiUnreachable
from llmjp_operator.observe.snapshot import ObjectRef
from tests.operator.fake_workloads import only, to_rfc3339
from tests.operator.model_bodies import Object
from tests.operator.simulation import Simulation


def tp(ranks: int) -> Object:
    return {"engine": {"backend": "torch", "maxSeqLen": 512, "tensorParallel": ranks}}


def building(pod: Object) -> Object | None:
    """Builds run and do not end."""
    component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
    return {"phase": "Running"} if component == "build" else succeed(pod)


def progress(step: str, percent: float) -> str:
    return json.dumps({"step": step, "percent": percent, "eta_seconds": None})


def test_the_progress_of_a_build_is_read_now_and_then() -> None:
    simulation = Simulation(script=building)
    simulation.run_for(1)
    [pod] = [ref.name for ref in simulation.objects if ref.kind == "Pod" and "build" in ref.name]
    simulation.server.logs[pod] = (
        f"{progress('fetch', 7)}\n{progress('convert', 41.9)}\nshard 3 of 8\n"
    )
    simulation.run_for(60)
    assert (simulation.status.build.step, simulation.status.build.percent) == ("convert", 41)
    assert len(simulation.server.log_reads) <= 60 / PROGRESS_EVERY_S + 2
    simulation.server.logs[pod] = "nothing that is progress"
    simulation.run_for(60)
    assert simulation.status.build.percent == 41, "what it said last holds"


def test_no_store_is_locked_while_the_log_of_a_build_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulation = Simulation(script=building)
    locks = simulation.operator.controller._locks
    locked = []

    async def read(*_: object) -> str:
        locked.append(any(lock.locked() for lock in locks.values()))
        return progress("convert", 5)

    monkeypatch.setattr(simulation.server, "read_log", read)
    simulation.run_for(3 * PROGRESS_EVERY_S)
    assert locked
    assert not any(locked)
    assert simulation.status.build.step == "convert"


def test_the_progress_of_builds_that_are_over_is_forgotten() -> None:
    simulation = Simulation(script=building)
    for ranks in (1, 2, 4):
        simulation.edit(tp(ranks))
        simulation.run_for(FORGET_S + 60)
    assert len(set(simulation.server.log_reads)) == 3
    assert len(simulation.operator.controller.snapshots._progress) == 1


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
    simulation = Simulation(script=building)
    simulation.run_for(1)
    [pod] = [ref.name for ref in simulation.objects if ref.kind == "Pod" and "build" in ref.name]
    simulation.server.logs[pod] = progress("convert", 99)
    simulation.run_for(2 * PROGRESS_EVERY_S)
    assert simulation.status.build.step == "convert"
    simulation.server.logs[pod] = (
        f"{progress('convert', 99)}\n{progress('compile', 1)}\nengine 1 of 4"
    )
    return simulation, pod


def failed_step(simulation: Simulation) -> str:
    failure = simulation.status.build.failure
    assert failure is not None
    assert f"in step {failure.step}" in simulation.message("Progressing")
    return failure.step


@pytest.mark.parametrize("restarted", [False, True])
def test_a_build_that_was_killed_names_the_step_that_its_log_ends_with(restarted: bool) -> None:
    simulation, _ = compiling()
    simulation.workloads.script = killed
    simulation.workloads.advance(simulation.now)
    if restarted:
        simulation.restart()
    simulation.settle()
    assert simulation.reason("EngineReady") == "BuildFailed"
    assert failed_step(simulation) == "compile"
    assert "spec.build.resources.limits.memory" in simulation.message("EngineReady")


@pytest.mark.parametrize("restarted", [False, True])
def test_a_log_that_cannot_be_read_does_not_keep_a_failure_back(
    restarted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was seen last is named then; after a restart the status remembers it."""
    simulation, _ = compiling()

    async def unreachable(*_: object) -> str:
        raise ApiUnreachable("the node does not answer")

    monkeypatch.setattr(simulation.server, "read_log", unreachable)
    simulation.workloads.script = killed
    simulation.workloads.advance(simulation.now)
    if restarted:
        simulation.restart()
    simulation.settle()
    assert failed_step(simulation) == "convert"


@pytest.mark.parametrize("restarted", [False, True])
def test_a_build_whose_pod_is_gone_names_the_step_seen_last(restarted: bool) -> None:
    simulation, pod = compiling()
    [job] = [job for job in simulation.jobs if job.component == "build"]
    ref = ObjectRef("Job", job.name)
    failed = {"type": "Failed", "status": "True", "lastTransitionTime": to_rfc3339(simulation.now)}
    simulation.server.discard(ObjectRef("Pod", pod))
    simulation.step()
    simulation.server.put({**simulation.objects[ref], "status": {"conditions": [failed]}})
    simulation.step()
    assert simulation.reason("EngineReady") == "Building", "the pod may still be seen to end"
    assert simulation.status.build.step == "convert"
    if restarted:
        simulation.restart()
    simulation.workloads.script = lambda _: None
    simulation.run_for(LOST_AFTER_S + LOOK_AGAIN_S)
    failure = simulation.status.build.failure
    assert failure is not None
    assert (failure.code, failure.step) == ("pod_lost", "convert")


def test_a_resolve_job_that_was_killed_has_no_steps_to_name() -> None:
    simulation = Simulation(script=only("resolve", out_of_memory()))
    simulation.settle()
    assert simulation.reason("EngineReady") == "ResolveFailed"
    message = simulation.message("EngineReady")
    assert "in step" not in message
    assert "spec.build.helperResources.limits.memory" in message
