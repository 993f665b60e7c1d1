"""Builds and engines that fail: what serves goes on, the status says why, mending helps."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from e2e.harness.namespace import ANSWER, QUESTION
from llmjp_client import Client

if TYPE_CHECKING:
    from e2e.harness.namespace import ModelNamespace

pytestmark = pytest.mark.cluster

_LITTLE = {"requests": {"memory": "20Mi"}}
NEVER = "http://127.0.0.1:9"
"""In a pod nobody listens there, and it is told so at once."""


@pytest.mark.parametrize(
    ("spec", "reason", "code"),
    [
        pytest.param(
            {"source": {"persistentVolumeClaim": {"claimName": "llmjp-tiny", "path": "nowhere"}}},
            "ResolveFailed",
            "missing_file",
            id="nothing there",
        ),
        pytest.param(
            {
                "source": {
                    "persistentVolumeClaim": None,
                    "huggingFace": {"repository": "example/tiny", "endpoint": NEVER},
                },
                "build": {"backoffLimit": 0},
            },
            "ResolveFailed",
            "hub_failed",
            id="no hub",
        ),
        pytest.param(
            {
                "engine": {"tensorParallel": 2},
                "build": {
                    "backoffLimit": 0,
                    "resources": {**_LITTLE, "limits": _LITTLE["requests"]},
                },
            },
            "BuildFailed",
            "not_enough_host_memory",
            id="too little memory",
        ),
    ],
)
def test_a_build_that_fails_changes_nothing_and_says_why(
    models: ModelNamespace, spec: dict[str, Any], reason: str, code: str
) -> None:
    models.apply(models.render_example())
    old = models.wait_for_phase("Serving")["engine"]["active"]

    models.patch_spec("llmjp-tiny-cpu", spec)
    condition = models.wait_for_reason("EngineReady", reason)
    assert f"({code})" in condition["message"]
    status = models.get_status()
    assert status["phase"] == "Degraded"
    assert status["engine"]["active"] == old
    assert status["build"]["failure"]["code"] == code
    with Client(models.get_address()) as client:
        reply = client.chat([{"role": "user", "content": QUESTION}], top_k=1)
        assert reply.text == ANSWER

    models.replace(models.render_example())
    models.wait_for_phase("Serving")


def test_an_engine_that_does_not_load_stops_the_rollout(models: ModelNamespace) -> None:
    models.apply(models.render_example())
    old = models.wait_for_phase("Serving")["engine"]["active"]

    models.patch_spec("llmjp-tiny-cpu", {"engine": {"tensorParallel": 2}})
    new = models.wait_for_phase("Serving")["engine"]["active"]
    artefact = models.get_store_folder() / "artefacts" / old
    shutil.move(artefact / "rank0.safetensors", artefact / "hidden")

    models.patch_spec("llmjp-tiny-cpu", {"engine": {"tensorParallel": 1}})
    condition = models.wait_for_reason("Progressing", "RollingOut")
    models.wait_for(
        "the pod's own words",
        lambda s: any("rank0.safetensors" in c.get("message", "") for c in s["conditions"]),
    )
    condition = models.get_condition("Progressing")
    assert "is missing" in condition["message"]
    assert models.get_status()["engine"]["active"] == new
    with Client(models.get_address()) as client:
        reply = client.chat([{"role": "user", "content": QUESTION}], top_k=1)
        assert reply.text == ANSWER

    # Mended: the file is back, and the rollout goes on by itself.
    shutil.move(artefact / "hidden", artefact / "rank0.safetensors")
    models.wait_for_phase("Serving")
    assert models.get_status()["engine"]["active"] == old
