"""A platform engineer applies a manifest; a program streams the right answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from e2e.harness.installation import RELEASE, SYSTEM
from e2e.harness.namespace import ANSWER, QUESTION
from llmjp_client import Client

if TYPE_CHECKING:
    from e2e.harness.namespace import ModelNamespace

pytestmark = pytest.mark.cluster


def test_a_manifest_becomes_an_endpoint_that_answers(models: ModelNamespace) -> None:
    models.apply(models.render_example())

    # helm test llmjp-operator: its pod asks the API server what the operator needs.
    told = models.installation.run_helm("test", RELEASE, "--namespace", SYSTEM)
    assert "Phase:          Succeeded" in told

    # kubectl wait --for=condition=Available ljm/llmjp-tiny-cpu
    status = models.wait_for_phase("Serving")
    assert status["engine"]["active"] == status["engine"]["key"]
    assert status["source"]["digest"]
    assert status["readyReplicas"] == 1

    # Outside the cluster its names do not resolve: the client forwards a port by itself.
    with Client.from_resource(
        "llmjp-tiny-cpu", namespace=models.name, kubeconfig=str(models.kubectl.kubeconfig)
    ) as client:
        with client.stream([{"role": "user", "content": QUESTION}], top_k=1) as stream:
            pieces = [chunk.text for chunk in stream]
        assert "".join(pieces) == ANSWER
        assert len(pieces) > 1

    # The artefact is where the manifest says, and whole.
    artefact = models.get_store_folder() / "artefacts" / status["engine"]["key"]
    assert (artefact / "manifest.json").is_file()

    # kubectl get ljm reads like a sentence.
    line = models.kubectl("get", "ljm").splitlines()[1].split()
    assert line[:5] == ["llmjp-tiny-cpu", "Serving", "Complete", "1/1", "torch"]


def test_scaling_and_pausing(models: ModelNamespace) -> None:
    models.apply(models.render_example(storage={"accessMode": "ReadWriteMany"}))
    models.wait_for_phase("Serving")
    jobs = models.list_jobs()

    models.kubectl("scale", "ljm/llmjp-tiny-cpu", "--replicas=2")
    models.wait_for("two pods", lambda s: s.get("readyReplicas") == 2)

    models.kubectl("scale", "ljm/llmjp-tiny-cpu", "--replicas=0")
    models.wait_for("no pods", lambda s: s.get("replicas") == 0)
    assert models.get_condition("Available")["reason"] == "ScaledToZero"

    models.kubectl("scale", "ljm/llmjp-tiny-cpu", "--replicas=1")
    models.wait_for_phase("Serving")
    assert models.list_jobs() == jobs, "scaling builds nothing"
