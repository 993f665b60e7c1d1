"""Two models on one store, and two operators in one cluster: each thing is done once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from e2e.harness.installation import RELEASE, SYSTEM
from hack.local_cluster.kubectl import wait_until

if TYPE_CHECKING:
    from e2e.harness.namespace import ModelNamespace

pytestmark = pytest.mark.cluster

SHARED = {"size": None, "accessMode": None, "onDelete": None, "existingClaim": "shared"}


def test_two_models_need_one_build(models: ModelNamespace) -> None:
    models.installation.create_volume(models.kubectl, "shared", make=True)
    models.apply(
        models.render_example("one", storage=SHARED), models.render_example("two", storage=SHARED)
    )
    keys = {models.wait_for_phase("Serving", name)["engine"]["active"] for name in ("one", "two")}
    assert len(keys) == 1
    assert len(models.list_jobs()) == 1
    [job] = models.kubectl.get("jobs", "--selector=app.kubernetes.io/component=build")["items"]
    created = job["status"]["startTime"]
    assert created

    # One goes, the other stays.
    models.kubectl("delete", "ljm", "one", "--timeout=60s")
    assert models.get_status("two")["phase"] == "Serving"


def test_two_operators_and_one_leads(models: ModelNamespace) -> None:
    system = models.installation.kubectl.within(SYSTEM)
    system("scale", f"deployment/{RELEASE}", "--replicas=2")
    try:
        system.wait(f"deployment/{RELEASE}", "jsonpath={.status.readyReplicas}=2")
        leader = system.get("lease", "llmjp-operator")["spec"]["holderIdentity"]
        pods = [
            pod["metadata"]["name"]
            for pod in system.get("pods", f"--selector=app.kubernetes.io/name={RELEASE}")["items"]
        ]
        assert leader in pods
        models.apply(models.render_example())
        models.wait_for_phase("Serving")
        assert len(models.list_jobs()) == 1

        # The leader goes; the other takes over and goes on where it was.
        system("delete", "pod", leader, "--wait=false")

        def changed() -> tuple[bool, object]:
            holder = system.get("lease", "llmjp-operator")["spec"].get("holderIdentity")
            return bool(holder) and holder != leader, holder

        wait_until("another leader", changed, timeout_s=60)
        models.patch_spec("llmjp-tiny-cpu", {"engine": {"tensorParallel": 2}})
        models.wait_for_phase("Serving")
        assert len(models.list_jobs()) == 2
    finally:
        system("scale", f"deployment/{RELEASE}", "--replicas=1")
        system.wait(f"deployment/{RELEASE}", "condition=Available")
