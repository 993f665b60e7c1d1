"""In somebody else's cluster: names that are taken, a lost record, an upgraded operator.

One model lives through all of it; its pod, and the address of its Service, stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from e2e.harness.installation import RELEASE, SYSTEM
from e2e.harness.namespace import ANSWER, QUESTION
from hack.local_cluster.kubectl import wait_until
from llmjp_client import Client

if TYPE_CHECKING:
    from e2e.harness.namespace import ModelNamespace

pytestmark = pytest.mark.cluster

NAME = "llmjp-tiny-cpu"
THEIRS: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": NAME, "labels": {"serving.llmjp.dev/model": NAME}},
    "spec": {"selector": {"app": "theirs"}, "ports": [{"port": 80}]},
}


def describe(models: ModelNamespace) -> tuple[list[str], str, list[str]]:
    """Return what must not change: pods, the Service's address, images' pull policy."""
    pods = sorted(pod["metadata"]["uid"] for pod in models.list_serving_pods())
    policies = [p["spec"]["containers"][0]["imagePullPolicy"] for p in models.list_serving_pods()]
    return pods, models.get_address(), policies


def restart_operator(models: ModelNamespace) -> None:
    system = models.installation.kubectl.within(SYSTEM)
    system("rollout", "restart", f"deployment/{RELEASE}")
    system("rollout", "status", f"deployment/{RELEASE}", "--timeout=60s")


def test_a_model_lives_among_others(models: ModelNamespace) -> None:
    serve_once_its_name_is_free(models)
    before = describe(models)
    lose_record(models)
    assert describe(models) == before

    # Another operator, with other settings for pods: what serves stays, also when it is scaled.
    models.installation.install(imagePullPolicy="IfNotPresent")
    try:
        models.patch_spec(NAME, {"serving": {"replicas": 2}})
        models.wait_for("2 pods", lambda status: status.get("readyReplicas") == 2)
        pods, address, policies = describe(models)
        assert before[0][0] in pods
        assert (address, policies) == (before[1], ["Never", "Never"])
        with Client(address) as client:
            messages = [{"role": "user", "content": QUESTION}]
            assert client.chat(messages, top_k=1).text == ANSWER
        roll_and_go_back(models)
    finally:
        models.installation.install()


def serve_once_its_name_is_free(models: ModelNamespace) -> None:
    """Its Service's name is somebody else's at first."""
    models.kubectl.apply(THEIRS)
    version = models.kubectl.get("service", NAME)["metadata"]["resourceVersion"]
    models.apply(models.render_example())
    taken = models.wait_for_reason("Stalled", "NameTaken")
    assert f"Service {NAME}" in taken["message"]
    assert models.kubectl.get("service", NAME)["metadata"]["resourceVersion"] == version
    models.kubectl("delete", "service", NAME)
    models.wait_for_phase("Serving")


def lose_record(models: ModelNamespace) -> None:
    """The record is lost, with the Jobs that could tell it again, and found again."""
    record = f"ljm-store-{NAME}-store"
    models.kubectl("delete", "jobs", "--all")
    models.kubectl("delete", "configmap", record)
    restart_operator(models)

    def found_again() -> tuple[bool, object]:
        names = "--output=jsonpath={.metadata.name}"
        if not models.kubectl("get", "configmap", "--ignore-not-found", names, record):
            return False, "no record"
        data = models.kubectl.get("configmap", record).get("data") or {}
        return any(name.startswith("artefact-") for name in data), sorted(data)

    wait_until("the artefact is found again", found_again, timeout_s=120)
    models.wait_for_phase("Serving")


def roll_and_go_back(models: ModelNamespace) -> None:
    """Pods are replaced once somebody asks for it; a rollback is to the whole of what ran."""
    models.patch_spec(NAME, {"serving": {"replicas": 1, "upgradePolicy": "Roll"}})
    wait_until_pulled_by(models, "IfNotPresent")
    models.wait_for_phase("Serving")
    numbers = models.kubectl("get", "controllerrevisions", "--output=jsonpath={.items[*].revision}")
    assert sorted(numbers.split()) == ["1", "2"]
    models.kubectl("annotate", "ljm", NAME, "serving.llmjp.dev/rollback-to=1")
    models.wait_for_reason("Ready", "HeldAtRevision")
    wait_until_pulled_by(models, "Never")


def wait_until_pulled_by(models: ModelNamespace, policy: str) -> None:
    """Wait until no pod of another pull policy is left."""

    def look() -> tuple[bool, object]:
        now = describe(models)
        return now[2] == [policy], now

    wait_until(f"one pod, {policy}", look, timeout_s=180)
