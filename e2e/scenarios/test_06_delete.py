"""Deleting: everything of a model goes, its volume as asked; also while no operator runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from e2e.harness.installation import RELEASE, SYSTEM
from e2e.harness.namespace import ANSWER, QUESTION, list_made_objects
from hack.local_cluster.kubectl import wait_until
from llmjp_client import Client

if TYPE_CHECKING:
    from e2e.harness.namespace import ModelNamespace

pytestmark = pytest.mark.cluster


def wait_until_left(models: ModelNamespace, expected: list[str]) -> None:
    def look() -> tuple[bool, object]:
        now = list_made_objects(models.kubectl)
        return now == expected, now

    wait_until(f"left is {expected}", look, timeout_s=120)


@pytest.mark.parametrize("running", [True, False], ids=["with the operator", "without"])
@pytest.mark.parametrize("on_delete", ["Delete", "Retain"])
def test_a_model_and_all_of_it(models: ModelNamespace, on_delete: str, running: bool) -> None:
    models.apply(models.render_example(storage={"onDelete": on_delete}))
    models.wait_for_phase("Serving")
    system = models.installation.kubectl.within(SYSTEM)
    if not running:
        system("scale", f"deployment/{RELEASE}", "--replicas=0")
        wait_until(
            "no operator",
            lambda: (not models.installation.list_operator_pods(), ""),
        )
    try:
        models.kubectl("delete", "ljm", "llmjp-tiny-cpu", "--timeout=60s")
        kept = []
        if on_delete == "Retain":
            kept = [
                "ConfigMap/ljm-store-llmjp-tiny-cpu-store",
                "PersistentVolumeClaim/llmjp-tiny-cpu-store",
            ]
        wait_until_left(models, kept)
        assert models.kubectl.get("pvc", "llmjp-tiny")["status"]["phase"] == "Bound"
    finally:
        if not running:
            system("scale", f"deployment/{RELEASE}", "--replicas=1")
            system.wait(f"deployment/{RELEASE}", "condition=Available")


def test_a_retained_store_is_found_again(models: ModelNamespace) -> None:
    models.apply(models.render_example(storage={"onDelete": "Retain"}))
    key = models.wait_for_phase("Serving")["engine"]["key"]
    models.kubectl("delete", "ljm", "llmjp-tiny-cpu", "--timeout=60s")
    models.apply(models.render_example(storage={"onDelete": "Retain"}))
    status = models.wait_for_phase("Serving")
    assert status["engine"]["key"] == key
    assert status["engine"]["cacheHit"] is True


def test_uninstalling_leaves_nothing_stuck(models: ModelNamespace) -> None:
    """Models and what they serve stay; they can be deleted, and are found by the next operator."""
    models.apply(models.render_example("goes"), models.render_example("stays"))
    for name in ("goes", "stays"):
        models.wait_for_phase("Serving", name)
    installation = models.installation
    jobs = models.list_jobs()
    installation.uninstall()
    try:
        release = f"--selector=app.kubernetes.io/instance={RELEASE}"
        kinds = (
            "deployments,services,serviceaccounts,configmaps,secrets,roles,rolebindings,"
            "poddisruptionbudgets,networkpolicies.networking.k8s.io"
        )
        assert installation.kubectl.within(SYSTEM).get(kinds, release)["items"] == []
        assert installation.kubectl.get("clusterroles,clusterrolebindings", release)["items"] == []

        models.kubectl("delete", "ljm", "goes", "--timeout=60s")
        wait_until("it is gone", lambda: (of(models, "goes") == [], of(models, "goes")))
        with Client(models.get_address("stays")) as client:
            assert client.chat([{"role": "user", "content": QUESTION}], top_k=1).text == ANSWER
    finally:
        installation.install()
    models.patch_spec("stays", {"serving": {"drainSeconds": 21}})
    models.wait_for_phase("Serving", "stays")
    assert jobs.items() >= models.list_jobs().items(), "nothing is built again"


def of(models: ModelNamespace, name: str) -> list[str]:
    """Objects of one model but for its store, which is asked to be kept."""
    label = f"--selector=serving.llmjp.dev/model={name}"
    found = models.kubectl.get("deployments,pods,services,serviceaccounts", label)["items"]
    return [f"{o['kind']}/{o['metadata']['name']}" for o in found]
