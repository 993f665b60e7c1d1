"""Why pods do not start stands on the model within 30 s, for Jobs and for serving pods.

The events are written by hand, in the form in which Kubernetes' controllers and the kubelet post
them; `act/test_waiting_applied.py` holds refusals against real controllers, no test a kubelet's.
"""

from __future__ import annotations

import pytest

from e2e.fake_kubelet import succeed
from llmjp_operator.decide.requeue import WAITING_EVERY_S
from llmjp_operator.observe.parsing import parse_warning
from llmjp_operator.observe.snapshot import ObjectRef
from tests.operator.fake_workloads import to_rfc3339
from tests.operator.model_bodies import Object
from tests.operator.simulation import Simulation

QUOTA = 'pods "a-0" is forbidden: exceeded quota: q, limited: pods=0'
SECURITY = 'pods "a-0" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'
WEBHOOK = 'admission webhook "deny.example.com" denied the request: no'
LIMITS = 'pods "a-0" is forbidden: maximum memory usage per Container is 1Mi, but limit is 2Gi'
REFUSALS = (QUOTA, SECURITY, WEBHOOK, LIMITS)
ON_THE_NODE = (
    ("FailedMount", 'MountVolume.SetUp failed for volume "token": secret "hub" not found'),
    ("FailedMount", 'MountVolume.SetUp failed for volume "x": configmap "x" not found'),
    ("FailedAttachVolume", "Multi-Attach error for volume pvc-1: already used by pod(s) b-0"),
    ("FailedCreatePodSandBox", "no runtime for nvidia is configured"),
)
IN_STATUS = (
    ("ErrImagePull", "404 Not Found"),
    ("ImagePullBackOff", "Back-off pulling image"),
    ("CreateContainerConfigError", 'secret "hub" not found'),
)
COMPONENTS = ("resolve", "build", "serving")


def make_event(uid: str, reason: str, message: str, at: float, kind: str = "Warning") -> Object:
    return {
        "metadata": {},
        "involvedObject": {"uid": uid},
        "type": kind,
        "reason": reason,
        "message": message,
        "lastTimestamp": to_rfc3339(at),
    }


def wait_with(component: str, status: Object) -> Simulation:
    """Return a model whose pods of a component have that status, seconds after they were made."""

    def script(pod: Object) -> Object | None:
        mine = pod["metadata"]["labels"]["app.kubernetes.io/component"] == component
        return status if mine else succeed(pod)

    simulation = Simulation(script=script)
    simulation.workloads.rollouts_stall = False
    simulation.run_for(5)
    return simulation


def uid_of(simulation: Simulation, kind: str, component: str) -> str:
    [uid] = [
        body["metadata"]["uid"]
        for ref, body in simulation.objects.items()
        if ref.kind == kind
        and body["metadata"]["labels"]["app.kubernetes.io/component"] == component
    ]
    return str(uid)


def assert_named(simulation: Simulation, reason: str, message: str) -> None:
    assert message in simulation.message("Progressing")
    assert reason in simulation.message("Progressing")
    assert simulation.reason("Ready") == reason
    assert simulation.reason("Progressing") in {"Resolving", "Building", "RollingOut"}


@pytest.mark.parametrize(("reason", "message"), ON_THE_NODE)
@pytest.mark.parametrize("component", COMPONENTS)
def test_what_the_node_lacks_is_named(component: str, reason: str, message: str) -> None:
    simulation = wait_with(component, {"phase": "Pending"})
    uid = uid_of(simulation, "Pod", component)
    told = simulation.now
    simulation.server.told += [
        make_event(uid, "Scheduled", "assigned", told, "Normal"),
        make_event(uid, reason, message, told),
    ]
    simulation.run_for(25)
    assert_named(simulation, reason, message)
    simulation.server.told.append(make_event(uid, "Pulling", "", simulation.now + 1, "Normal"))
    simulation.run_for(25)
    assert reason not in simulation.message("Progressing"), "it is over"
    assert simulation.reason("Ready") == simulation.reason("Progressing")


@pytest.mark.parametrize(("reason", "message"), IN_STATUS)
@pytest.mark.parametrize("component", COMPONENTS)
def test_what_a_pod_says_itself_is_named_at_once(component: str, reason: str, message: str) -> None:
    container = "triton" if component == "serving" else "builder"
    waiting = {"waiting": {"reason": reason, "message": message}}
    status = {"phase": "Pending", "containerStatuses": [{"name": container, "state": waiting}]}
    simulation = wait_with(component, status)
    assert_named(simulation, reason, message)
    assert not simulation.server.event_reads


@pytest.mark.parametrize("message", REFUSALS)
@pytest.mark.parametrize("component", ["resolve", "build"])
def test_a_refused_pod_of_a_job_is_named(component: str, message: str) -> None:
    simulation = wait_with(component, {"phase": "Pending"})
    simulation.workloads.refused = component
    uid = uid_of(simulation, "Job", component)
    [pod] = [r for r, b in simulation.objects.items() if r.kind == "Pod" and is_of(b, component)]
    simulation.server.discard(pod)
    simulation.server.told.append(make_event(uid, "FailedCreate", message, simulation.now))
    simulation.run_for(25)
    assert_named(simulation, "FailedCreate", message)


def is_of(body: Object, component: str) -> bool:
    return bool(body["metadata"]["labels"]["app.kubernetes.io/component"] == component)


@pytest.mark.parametrize("message", REFUSALS)
def test_a_refused_serving_pod_is_named(message: str) -> None:
    simulation = wait_with("serving", {"phase": "Pending"})
    ref = ObjectRef("Deployment", "a")
    simulation.workloads.refused = "serving"
    [pod] = [r for r, b in simulation.objects.items() if r.kind == "Pod" and is_of(b, "serving")]
    simulation.server.discard(pod)
    body = simulation.objects[ref]
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}
    status = {**body["status"], "conditions": [{**failure, "message": message}]}
    simulation.server.put({**body, "status": status})
    simulation.run_for(5)
    assert_named(simulation, "FailedCreate", message)


def test_events_are_read_only_about_what_waits_and_seldom() -> None:
    simulation = Simulation()
    simulation.settle()
    assert not simulation.server.event_reads
    simulation = wait_with("serving", {"phase": "Pending"})
    simulation.run_for(10 * WAITING_EVERY_S)
    assert set(simulation.server.event_reads) == {uid_of(simulation, "Pod", "serving")}
    assert 8 <= len(simulation.server.event_reads) <= 11


@pytest.mark.parametrize(
    ("events", "warning"),
    [
        ([], ""),
        ([make_event("u", "FailedMount", "a\nb", 1)], "FailedMount: a b"),
        ([make_event("u", "A", "", 2), make_event("u", "B", "", 1, "Normal")], "A"),
        ([make_event("u", "A", "", 1), make_event("u", "B", "", 2, "Normal")], ""),
        ([make_event("u", "A", "", 1), make_event("u", "B", "", 1, "Normal")], "A"),
        (
            [
                make_event("u", "B", "", 2, "Normal"),
                make_event("u", "A", "", 1)
                | {"series": {"lastObservedTime": "2099-01-01T00:00:00.5Z"}},
            ],
            "A",
        ),
    ],
)
def test_the_latest_event_counts(events: list[Object], warning: str) -> None:
    assert parse_warning(events) == warning
