"""What real controllers say of pods that the real API server refuses is read as it is meant."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator

import pytest
from kubernetes.aio import client, config

from hack.local_cluster import Cluster, Kubectl
from hack.local_cluster.errors import KubectlFailed
from hack.local_cluster.kubectl import wait_until
from llmjp_operator.act.api_client import KubeCluster
from llmjp_operator.observe.parsing import parse_deployment, parse_warning
from tests.operator.model_bodies import Object

pytestmark = pytest.mark.cluster

NAMED_WITHIN_S = 20.0
"""The operator looks every 10 s: together that is 30 s."""
POLICY = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicy",
    "spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": ["pods"],
                }
            ]
        },
        "validations": [{"expression": "false", "message": "no pods today"}],
    },
}


@pytest.fixture
def place(control_plane: Cluster) -> Iterator[Kubectl]:
    kubectl, name = control_plane.kubectl, f"waiting-{secrets.token_hex(4)}"
    kubectl("create", "namespace", name)
    kubectl.wait(f"namespace/{name}", "jsonpath={.status.phase}=Active")
    yield kubectl.within(name)
    kubectl(
        "delete",
        "validatingadmissionpolicy,validatingadmissionpolicybinding",
        name,
        "--ignore-not-found",
    )
    kubectl("delete", "namespace", name, "--wait=false")


def refuse_by_quota(place: Kubectl) -> None:
    place("create", "quota", "q", "--hard=pods=0")
    place.wait("quota/q", "jsonpath={.status.hard.pods}=0")


def refuse_by_limits(place: Kubectl) -> None:
    limits = {"limits": [{"type": "Container", "max": {"memory": "1Mi"}}]}
    place.apply(
        {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": limits}
    )


def refuse_by_security(place: Kubectl) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    place("label", "namespace", str(place.namespace), label)


def refuse_by_policy(place: Kubectl) -> None:
    name = str(place.namespace)
    here = {"matchLabels": {"kubernetes.io/metadata.name": name}}
    spec = {
        "policyName": name,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": here},
    }
    binding = {**POLICY, "kind": "ValidatingAdmissionPolicyBinding", "spec": spec}
    place.apply(*({**obj, "metadata": {"name": name}} for obj in (POLICY, binding)))
    wait_until("the policy refuses", lambda: is_refused(place))


def is_refused(place: Kubectl) -> tuple[bool, object]:
    try:
        place("run", "probe", "--image=none", "--dry-run=server")
    except KubectlFailed as exc:
        return "no pods today" in exc.stderr, exc.stderr
    return False, "it was admitted"


def make_objects() -> list[Object]:
    limits = {"limits": {"memory": "2Gi", "cpu": "1"}}
    pods: Object = {"containers": [{"name": "a", "image": "none", "resources": limits}]}
    labels = {"app": "a"}
    return [
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "a"},
            "spec": {"template": {"spec": {**pods, "restartPolicy": "Never"}}},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "a"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pods},
            },
        },
    ]


def read_warning(place: Kubectl, uid: str) -> str:
    async def ask() -> str:
        await config.load_kube_config(str(place.kubeconfig))
        async with client.ApiClient() as api:
            cluster = KubeCluster(api, asyncio.Semaphore(1))
            return parse_warning(await cluster.list_events(str(place.namespace), uid))

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("refuse", "words"),
    [
        (refuse_by_quota, "exceeded quota"),
        (refuse_by_limits, "maximum memory usage per Container"),
        (refuse_by_security, "violates PodSecurity"),
        (refuse_by_policy, "no pods today"),
    ],
)
def test_a_refused_pod_is_named(
    place: Kubectl, refuse: Callable[[Kubectl], None], words: str
) -> None:
    refuse(place)
    job, _ = place.apply(*make_objects())

    def look() -> tuple[bool, object]:
        said = read_warning(place, job["metadata"]["uid"])
        refused = parse_deployment(place.get("deployment", "a")).refused
        both = (said, refused)
        return all(w.startswith("FailedCreate: ") and words in w for w in both), both

    wait_until("Job and Deployment say it", look, timeout_s=NAMED_WITHIN_S)
