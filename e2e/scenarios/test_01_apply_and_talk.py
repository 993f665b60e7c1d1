"""A platform engineer applies a manifest; a program streams the right answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from e2e.place import ANSWER, QUESTION
from e2e.stage import RELEASE, SYSTEM
from llmjp_client import Client

if TYPE_CHECKING:
    from e2e.place import Place

pytestmark = pytest.mark.cluster


def test_a_manifest_becomes_an_endpoint_that_answers(place: Place) -> None:
    place.apply(place.tiny())

    # helm test llmjp-operator: its pod asks the API server what the operator needs.
    told = place.stage.run_helm("test", RELEASE, "--namespace", SYSTEM)
    assert "Phase:          Succeeded" in told

    # kubectl wait --for=condition=Available ljm/llmjp-tiny-cpu
    status = place.wait_for_phase("Serving")
    assert status["engine"]["active"] == status["engine"]["key"]
    assert status["source"]["digest"]
    assert status["readyReplicas"] == 1

    # Outside the cluster its names do not resolve: the client forwards a port by itself.
    with Client.from_resource(
        "llmjp-tiny-cpu", namespace=place.namespace, kubeconfig=str(place.kubectl.kubeconfig)
    ) as client:
        with client.stream([{"role": "user", "content": QUESTION}], top_k=1) as stream:
            pieces = [chunk.text for chunk in stream]
        assert "".join(pieces) == ANSWER
        assert len(pieces) > 1

    # The artefact is where the manifest says, and whole.
    artefact = place.store() / "artefacts" / status["engine"]["key"]
    assert (artefact / "manifest.json").is_file()

    # kubectl get ljm reads like a sentence.
    line = place.kubectl("get", "ljm").splitlines()[1].split()
    assert line[:5] == ["llmjp-tiny-cpu", "Serving", "torch", status["engine"]["key"], "1"]


def test_scaling_and_pausing(place: Place) -> None:
    place.apply(place.tiny(storage={"accessMode": "ReadWriteMany"}))
    place.wait_for_phase("Serving")
    jobs = place.jobs()

    place.kubectl("scale", "ljm/llmjp-tiny-cpu", "--replicas=2")
    place.wait_for("two pods", lambda s: s.get("readyReplicas") == 2)

    place.kubectl("scale", "ljm/llmjp-tiny-cpu", "--replicas=0")
    place.wait_for("no pods", lambda s: s.get("replicas") == 0)
    assert place.condition("Available")["reason"] == "ScaledToZero"

    place.kubectl("scale", "ljm/llmjp-tiny-cpu", "--replicas=1")
    place.wait_for_phase("Serving")
    assert place.jobs() == jobs, "scaling builds nothing"
