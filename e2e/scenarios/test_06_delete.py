"""Deleting: everything of a model goes, its volume as asked; also while no operator runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from e2e.place import ANSWER, QUESTION, made
from e2e.stage import RELEASE, SYSTEM
from hack.local_cluster.kubectl import wait_until
from llmjp_client import Client

if TYPE_CHECKING:
    from e2e.place import Place

pytestmark = pytest.mark.cluster


def wait_until_left(place: Place, expected: list[str]) -> None:
    def look() -> tuple[bool, object]:
        now = made(place.kubectl)
        return now == expected, now

    wait_until(f"left is {expected}", look, timeout_s=120)


@pytest.mark.parametrize("running", [True, False], ids=["with the operator", "without"])
@pytest.mark.parametrize("on_delete", ["Delete", "Retain"])
def test_a_model_and_all_of_it(place: Place, on_delete: str, running: bool) -> None:
    place.apply(place.tiny(storage={"onDelete": on_delete}))
    place.wait_for_phase("Serving")
    system = place.stage.kubectl.within(SYSTEM)
    if not running:
        system("scale", f"deployment/{RELEASE}", "--replicas=0")
        wait_until(
            "no operator",
            lambda: (not place.stage.operators(), ""),
        )
    try:
        place.kubectl("delete", "ljm", "llmjp-tiny-cpu", "--timeout=60s")
        kept = []
        if on_delete == "Retain":
            kept = [
                "ConfigMap/ljm-store-llmjp-tiny-cpu-store",
                "PersistentVolumeClaim/llmjp-tiny-cpu-store",
            ]
        wait_until_left(place, kept)
        assert place.kubectl.get("pvc", "llmjp-tiny")["status"]["phase"] == "Bound"
    finally:
        if not running:
            system("scale", f"deployment/{RELEASE}", "--replicas=1")
            system.wait(f"deployment/{RELEASE}", "condition=Available")


def test_a_retained_store_is_found_again(place: Place) -> None:
    place.apply(place.tiny(storage={"onDelete": "Retain"}))
    key = place.wait_for_phase("Serving")["engine"]["key"]
    place.kubectl("delete", "ljm", "llmjp-tiny-cpu", "--timeout=60s")
    place.apply(place.tiny(storage={"onDelete": "Retain"}))
    status = place.wait_for_phase("Serving")
    assert status["engine"]["key"] == key
    assert status["engine"]["cacheHit"] is True


def test_uninstalling_leaves_nothing_stuck(place: Place) -> None:
    """Models and what they serve stay; they can be deleted, and are found by the next operator."""
    place.apply(place.tiny("goes"), place.tiny("stays"))
    for name in ("goes", "stays"):
        place.wait_for_phase("Serving", name)
    stage = place.stage
    jobs = place.jobs()
    stage.uninstall()
    try:
        release = f"--selector=app.kubernetes.io/instance={RELEASE}"
        kinds = (
            "deployments,services,serviceaccounts,configmaps,secrets,roles,rolebindings,"
            "poddisruptionbudgets,networkpolicies.networking.k8s.io"
        )
        assert stage.kubectl.within(SYSTEM).get(kinds, release)["items"] == []
        assert stage.kubectl.get("clusterroles,clusterrolebindings", release)["items"] == []

        place.kubectl("delete", "ljm", "goes", "--timeout=60s")
        wait_until("it is gone", lambda: (of(place, "goes") == [], of(place, "goes")))
        with Client(place.address("stays")) as client:
            assert client.chat([{"role": "user", "content": QUESTION}], top_k=1).text == ANSWER
    finally:
        stage.install()
    place.change("stays", {"serving": {"drainSeconds": 21}})
    place.wait_for_phase("Serving", "stays")
    assert jobs.items() >= place.jobs().items(), "nothing is built again"


def of(place: Place, name: str) -> list[str]:
    """Objects of one model but for its store, which is asked to be kept."""
    label = f"--selector=serving.llmjp.dev/model={name}"
    found = place.kubectl.get("deployments,pods,services,serviceaccounts", label)["items"]
    return [f"{o['kind']}/{o['metadata']['name']}" for o in found]
