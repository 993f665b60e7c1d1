"""Deleting: everything of a model goes, its volume as asked; also while no operator runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from e2e.cluster.kubectl import wait_until
from e2e.stage import RELEASE, SYSTEM

if TYPE_CHECKING:
    from e2e.place import Place

pytestmark = pytest.mark.cluster

KINDS = "deployments,replicasets,pods,jobs,services,serviceaccounts,poddisruptionbudgets"
OURS = "--selector=app.kubernetes.io/managed-by=llmjp-operator"


def left(place: Place) -> list[str]:
    """What is there of any model."""
    kinds = f"{KINDS},networkpolicies.networking.k8s.io,persistentvolumeclaims,configmaps"
    found = place.kubectl.get(kinds, OURS)["items"]
    return sorted(f"{o['kind']}/{o['metadata']['name']}" for o in found)


def wait_until_left(place: Place, expected: list[str]) -> None:
    def look() -> tuple[bool, object]:
        now = left(place)
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
            lambda: (
                not system.get("pods", f"--selector=app.kubernetes.io/name={RELEASE}")["items"],
                "",
            ),
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
