"""Objects of the API server as facts."""

from __future__ import annotations

from typing import Any

import pytest

from llmjp_operator.observe.parsing import (
    parse_claim,
    parse_deployment,
    parse_job,
    parse_node,
    parse_pod,
)
from llmjp_operator.observe.snapshot import ObservedClaim, Termination
from tests.operator.model_bodies import Object

LABELS = {
    "app.kubernetes.io/component": "serving",
    "serving.llmjp.dev/model": "m",
    "serving.llmjp.dev/key": "k",
    "batch.kubernetes.io/controller-uid": "j",
}


def pod(status: Object | None = None, component: str = "serving", **metadata: Any) -> Any:
    labels = LABELS | {"app.kubernetes.io/component": component}
    return parse_pod(
        {"metadata": {"name": "p", "labels": labels, **metadata}, "status": status or {}}
    )


def container(name: str = "triton", **values: Any) -> Object:
    return {"containerStatuses": [{"name": name, "restartCount": 2, **values}]}


def test_a_pod_that_says_nothing() -> None:
    found = parse_pod({"metadata": {"name": "p"}})
    assert (found.name, found.component, found.phase, found.ready) == ("p", "", "", False)
    assert (found.termination, found.waiting, found.evicted, found.deleting) == (
        None,
        "",
        False,
        False,
    )


def test_a_pod_is_read_with_its_labels_and_deletion() -> None:
    found = pod(deletionTimestamp="2026-01-01T00:00:00Z")
    assert (found.model, found.key, found.job, found.deleting) == ("m", "k", "j", True)


def test_a_pod_is_ready_by_its_condition() -> None:
    found = pod({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
    assert (found.phase, found.ready) == ("Running", True)


ENDED = {"terminated": {"exitCode": 3, "reason": "Error", "message": "no"}}


@pytest.mark.parametrize(
    "state",
    [{"state": ENDED}, {"state": {"running": {}}, "lastState": ENDED}],
    ids=["now", "the last time"],
)
def test_how_a_container_ended(state: Object) -> None:
    found = pod(container(**state))
    assert (found.termination, found.restarts) == (
        Termination(exit_code=3, reason="Error", message="no"),
        2,
    )


def test_the_main_container_counts() -> None:
    assert pod(container("sidecar", state=ENDED)).termination is None
    assert pod(container("builder", state=ENDED), "build").termination is not None


@pytest.mark.parametrize(
    ("status", "waiting"),
    [
        (
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/1 nodes",
                    }
                ]
            },
            "Unschedulable: 0/1 nodes",
        ),
        (
            container(state={"waiting": {"reason": "ErrImagePull", "message": "404"}}),
            "ErrImagePull: 404",
        ),
        (container(state={"waiting": {"reason": "CrashLoopBackOff"}}), "CrashLoopBackOff"),
        (container(state={"waiting": {"reason": "ContainerCreating"}}), ""),
        (
            {
                "initContainerStatuses": [
                    {"name": "i", "state": {"waiting": {"reason": "ErrImagePull"}}}
                ],
                **container(state={"waiting": {"reason": "PodInitializing"}}),
            },
            "ErrImagePull",
        ),
        (container("sidecar", state={"waiting": {"reason": "ErrImagePull"}}), "ErrImagePull"),
    ],
)
def test_the_reason_why_a_pod_waits_is_read(status: Object, waiting: str) -> None:
    assert pod(status).waiting == waiting


@pytest.mark.parametrize(
    ("status", "evicted"),
    [
        ({"reason": "Evicted"}, True),
        ({"conditions": [{"type": "DisruptionTarget", "status": "True"}]}, True),
        ({"conditions": [{"type": "DisruptionTarget", "status": "False"}]}, False),
        ({"reason": "DeadlineExceeded"}, False),
    ],
)
def test_pods_that_were_taken_away(status: Object, evicted: bool) -> None:
    assert pod(status).evicted is evicted


def job(attempt: str = "2", **status: Any) -> Any:
    return parse_job(
        {
            "metadata": {
                "name": "j",
                "uid": "u",
                "labels": {**LABELS, "serving.llmjp.dev/request": "r"},
                "annotations": {"serving.llmjp.dev/attempt": attempt},
                "ownerReferences": [{"uid": "a"}, {"uid": "b"}],
            },
            "status": status,
        }
    )


def test_a_running_job_has_not_finished() -> None:
    found = job()
    assert (found.request, found.attempt, found.owners) == ("r", 2, {"a", "b"})
    assert (found.finished, found.finished_at) == (False, None)


@pytest.mark.parametrize("attempt", ["", "two", "-1"])
def test_an_attempt_that_is_no_number(attempt: str) -> None:
    assert job(attempt).attempt == 1


@pytest.mark.parametrize("kind", ["Complete", "Failed"])
def test_a_finished_job_has_its_time(kind: str) -> None:
    condition = {"type": kind, "status": "True", "reason": "DeadlineExceeded"}
    found = job(conditions=[{**condition, "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    assert (found.succeeded, found.failed) == (kind == "Complete", kind == "Failed")
    assert found.failure_reason == ("DeadlineExceeded" if kind == "Failed" else "")
    assert found.finished_at == 1767225600.0


def deployment(**status: Any) -> Any:
    return parse_deployment(
        {
            "metadata": {
                "name": "m",
                "generation": 2,
                "annotations": {"serving.llmjp.dev/pods": "d"},
            },
            "spec": {"replicas": 0, "template": {"metadata": {"labels": LABELS}}},
            "status": status,
        }
    )


def test_a_deployment_that_its_controller_has_not_seen() -> None:
    found = deployment(observedGeneration=1)
    assert (found.observed, found.wanted, found.key, found.pods) == (False, 0, "k", "d")


def test_counts_of_a_deployment() -> None:
    found = deployment(
        observedGeneration=2, replicas=4, updatedReplicas=3, readyReplicas=2, availableReplicas=1
    )
    assert found.observed
    assert (found.replicas, found.updated, found.ready, found.available) == (4, 3, 2, 1)


@pytest.mark.parametrize(
    ("condition", "stalled"),
    [
        ({"status": "False", "reason": "ProgressDeadlineExceeded", "message": "late"}, "late"),
        ({"status": "False", "reason": "ReplicaSetCreateError", "message": "quota"}, ""),
        ({"status": "True", "reason": "ProgressDeadlineExceeded"}, ""),
    ],
)
def test_a_deployment_that_stalls(condition: Object, stalled: str) -> None:
    assert deployment(conditions=[{"type": "Progressing", **condition}]).stalled == stalled


def test_access_modes_of_a_claim_are_the_bound_ones() -> None:
    body: Object = {"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteMany"]}}
    assert parse_claim(body) == ObservedClaim(name="c", access_modes=("ReadWriteMany",))
    body["status"] = {"phase": "Bound", "accessModes": ["ReadWriteOnce"]}
    assert parse_claim(body).access_modes == ("ReadWriteOnce",)


@pytest.mark.parametrize(("offered", "gpus"), [("8", 8), ("many", 0), (None, 0)])
def test_gpus_are_what_the_device_plugin_offers(offered: str | None, gpus: int) -> None:
    allocatable = {} if offered is None else {"nvidia.com/gpu": offered}
    found = parse_node({"metadata": {"name": "n"}, "status": {"allocatable": allocatable}})
    assert (found.gpus, found.schedulable, found.gpu_product) == (gpus, True, "")
    assert found.compute_capability == ""


def test_a_node_that_is_cordoned() -> None:
    assert not parse_node({"metadata": {"name": "n"}, "spec": {"unschedulable": True}}).schedulable
