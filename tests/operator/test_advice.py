"""Advice that the operator gives is followed, word for word, until the model serves."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from e2e.fake_kubelet import make_ended_status, succeed
from llmjp_operator.api import Phase
from llmjp_operator.names import ATTEMPT, POD_DIGEST, RETRY
from tests.operator.factories import SETTINGS, make_failure
from tests.operator.fake_workloads import Script, only
from tests.operator.model_bodies import Object, merge_patch
from tests.operator.simulation import Simulation

COMMAND = re.compile(rf'kubectl annotate -n ns --overwrite ljm/a {re.escape(RETRY)}="(.+)"$')


def annotate_as_told(simulation: Simulation) -> None:
    """Run the command at the end of the message, a minute later."""
    simulation.run_for(60)
    found = COMMAND.search(simulation.message("EngineReady"))
    assert found is not None, simulation.message("EngineReady")
    simulation.edit(retry=found[1].replace("$(date +%s)", str(int(simulation.now))))
    simulation.settle()


@pytest.mark.parametrize("component", ["resolve", "build"])
def test_the_command_for_another_try_works_any_number_of_times(component: str) -> None:
    refused = make_failure("gated_repository", retryable=False)
    simulation = Simulation(script=only(component, make_ended_status(refused.to_json(), 3)))
    simulation.settle()
    for tries in (1, 2, 3):
        assert len(simulation.all_jobs(component)) == tries
        assert simulation.phase == Phase.FAILED
        if tries == 3:
            simulation.workloads.script = succeed
        annotate_as_told(simulation)
    assert simulation.phase == Phase.SERVING


def container_of(pod: Object) -> Object:
    found: Object = pod["spec"]["containers"][0]
    return found


def if_fixed(component: str, is_fixed: Callable[[Object], bool], status: Object | None) -> Script:
    """Return a script in which one kind of pod comes to that status until it is fixed."""

    def script(pod: Object) -> Object | None:
        labels = pod["metadata"]["labels"]
        if labels["app.kubernetes.io/component"] != component or is_fixed(pod):
            return succeed(pod)
        return status

    return script


def has_token(pod: Object) -> bool:
    return any(volume["name"] == "token" for volume in pod["spec"]["volumes"])


UNAUTHORIZED = make_ended_status(make_failure("gated_repository", retryable=False).to_json(), 3)
OUT_OF_MEMORY = {
    "phase": "Failed",
    "containerStatuses": [
        {
            "name": "builder",
            "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": ""}},
        }
    ],
}
UNSCHEDULABLE = {
    "phase": "Pending",
    "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}],
}
PULLING = {
    "phase": "Pending",
    "containerStatuses": [
        {"name": "builder", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
    ],
}
TOKEN = {
    "source": {"huggingFace": {"tokenSecretRef": {"name": "hub-token", "key": "token"}}},
}


@dataclass(frozen=True)
class Advice:
    """A fault of pods of a Job, and the edit that is advised."""

    status: Object | None
    is_fixed: Callable[[Object], bool]
    edit: Object
    components: tuple[str, ...] = ("build",)


ADVICE = {
    "a token after a 401": Advice(UNAUTHORIZED, has_token, TOKEN, ("resolve", "build")),
    "memory after an OOM": Advice(
        OUT_OF_MEMORY,
        lambda pod: container_of(pod)["resources"]["limits"]["memory"] == "99Gi",
        {"build": {"resources": {"limits": {"memory": "99Gi"}}}},
    ),
    "memory after an OOM of a helper": Advice(
        OUT_OF_MEMORY,
        lambda pod: container_of(pod)["resources"]["limits"]["memory"] == "99Gi",
        {"build": {"helperResources": {"limits": {"memory": "99Gi"}}}},
        ("resolve",),
    ),
    "another node selector": Advice(
        UNSCHEDULABLE,
        lambda pod: pod["spec"].get("nodeSelector") == {"disk": "fast"},
        {"build": {"nodeSelector": {"disk": "fast"}}},
        ("resolve", "build"),
    ),
    "a toleration": Advice(
        UNSCHEDULABLE,
        lambda pod: bool(pod["spec"].get("tolerations")),
        {"build": {"tolerations": [{"key": "gpu", "operator": "Exists"}]}},
        ("resolve", "build"),
    ),
}


@pytest.mark.parametrize(
    ("advice", "component"),
    [
        pytest.param(advice, component, id=f"{name}-{component}")
        for name, advice in ADVICE.items()
        for component in advice.components
    ],
)
def test_an_edit_that_is_advised_leads_to_serving(advice: Advice, component: str) -> None:
    simulation = Simulation(script=if_fixed(component, advice.is_fixed, advice.status))
    simulation.run_for(7200)
    assert simulation.phase != Phase.SERVING
    simulation.edit(advice.edit)
    simulation.run_for(60)
    assert simulation.phase == Phase.SERVING
    assert len(simulation.all_jobs(component)) == 2
    assert not simulation.errors


@pytest.mark.parametrize("component", ["resolve", "build"])
def test_a_job_whose_image_cannot_be_pulled_is_replaced_once_the_values_are_right(
    component: str,
) -> None:
    def is_fixed(pod: Object) -> bool:
        return bool(container_of(pod)["image"] == "builder:fixed")

    simulation = Simulation(script=if_fixed(component, is_fixed, PULLING))
    simulation.run_for(60)
    assert "ImagePullBackOff" in simulation.message("EngineReady")
    cpu = replace(SETTINGS.images["cpu"], builder="builder:fixed")
    simulation.restart(replace(SETTINGS, images={**SETTINGS.images, "cpu": cpu}))
    simulation.settle()
    assert simulation.phase == Phase.SERVING
    assert len(simulation.all_jobs(component)) == 2


def test_a_build_that_runs_goes_on_and_what_has_changed_counts_when_it_fails() -> None:
    advice = ADVICE["memory after an OOM"]
    simulation = Simulation(script=only("build", {"phase": "Running"}))
    simulation.run_for(30)
    simulation.edit(advice.edit)
    simulation.run_for(30)
    assert len(simulation.all_jobs("build")) == 1
    simulation.workloads.script = if_fixed("build", advice.is_fixed, advice.status)
    simulation.run_for(60)
    assert simulation.phase == Phase.SERVING
    assert len(simulation.all_jobs("build")) == 2


def test_a_job_of_an_older_operator_is_left_alone_while_it_is_there() -> None:
    simulation = Simulation(script=only("build", UNSCHEDULABLE))
    simulation.run_for(60)
    [job] = simulation.all_jobs("build")
    older = {k: v for k, v in job["metadata"]["annotations"].items() if k != POD_DIGEST}
    simulation.server.put({**job, "metadata": {**job["metadata"], "annotations": older}})
    simulation.edit(ADVICE["another node selector"].edit)
    simulation.run_for(60)
    assert len(simulation.all_jobs("build")) == 1


SHARED = {"storage": {"existingClaim": "shared", "size": None}}


def both(script: Script, a: Object, b: Object) -> Simulation:
    """Return models `a` and `b` on one store, with equal builds."""
    simulation = Simulation(merge_patch(SHARED, a), script=script)
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "shared"}}
    simulation.server.put({**claim, "spec": {"accessModes": ["ReadWriteMany"]}})
    simulation.run_for(60)
    simulation.edit(merge_patch(SHARED, b), "b")
    simulation.run_for(60)
    return simulation


def test_a_bad_token_of_one_model_fails_no_equal_build_of_another() -> None:
    simulation = both(if_fixed("build", has_token, UNAUTHORIZED), {}, TOKEN)
    assert [str(simulation.status_of(name).phase) for name in "ab"] == [Phase.SERVING] * 2
    assert len(simulation.all_jobs("build")) == 2


def test_two_models_whose_pods_fail_differently_do_not_replace_each_others_jobs_for_ever() -> None:
    simulation = both(only("build", UNAUTHORIZED), {}, TOKEN)
    assert [str(simulation.status_of(name).phase) for name in "ab"] == [Phase.FAILED] * 2
    assert len(simulation.all_jobs("build")) == 2


def test_models_with_equal_pods_share_a_failure() -> None:
    simulation = both(only("build", UNAUTHORIZED), TOKEN, TOKEN)
    assert [str(simulation.status_of(name).phase) for name in "ab"] == [Phase.FAILED] * 2
    assert len(simulation.all_jobs("build")) == 1


EVICTED = {
    "phase": "Failed",
    "conditions": [
        {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
    ],
    "containerStatuses": [
        {
            "name": "builder",
            "state": {"terminated": {"exitCode": 137, "reason": "Error", "message": ""}},
        }
    ],
}


@pytest.mark.parametrize("component", ["resolve", "build"])
@pytest.mark.parametrize("limit", [0, 3])
def test_evictions_are_no_failures_of_the_build(component: str, limit: int) -> None:
    spot = {"build": {"backoffLimit": limit}}
    simulation = Simulation(spot, script=only(component, EVICTED))
    simulation.run_for(4 * 3600)
    jobs = simulation.all_jobs(component)
    assert 24 <= len(jobs) <= 40, "every 10 minutes in the end"
    assert {job["metadata"]["annotations"][ATTEMPT] for job in jobs} == {"1"}
    assert simulation.reason("EngineReady").endswith("Retrying")
    simulation.workloads.script = succeed
    simulation.run_for(700)
    assert simulation.phase == Phase.SERVING


def test_failures_between_evictions_count() -> None:
    simulation = Simulation(script=only("build", EVICTED))
    simulation.run_for(3600)
    transient = make_ended_status(make_failure("hub_failed").to_json(), 3)
    simulation.workloads.script = only("build", transient)
    simulation.run_for(4 * 3600)
    assert simulation.phase == Phase.FAILED
    assert "after 4 attempts" in simulation.message("EngineReady")


def test_a_job_that_cannot_start_is_replaced_by_another_model_once_its_maker_moves_on() -> None:
    def is_fixed(pod: Object) -> bool:
        return bool(pod["spec"].get("nodeSelector") == {"disk": "fast"})

    fast = {"build": {"nodeSelector": {"disk": "fast"}}}
    simulation = both(if_fixed("build", is_fixed, UNSCHEDULABLE), {}, fast)
    assert len(simulation.all_jobs("build")) == 1, "it is the Job of model a"
    other = {"engine": {"backend": "torch", "maxSeqLen": 512, "tensorParallel": 2}}
    simulation.edit(merge_patch(SHARED, other))
    simulation.run_for(60)
    assert simulation.status_of("b").phase == Phase.SERVING
    assert simulation.status_of("a").phase == Phase.BUILDING
