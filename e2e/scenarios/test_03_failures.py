"""Builds and engines that fail: what serves goes on, the status says why, mending helps."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from e2e.place import ANSWER, QUESTION
from llmjp_client import Client

if TYPE_CHECKING:
    from e2e.place import Place

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
    place: Place, spec: dict[str, Any], reason: str, code: str
) -> None:
    place.apply(place.tiny())
    old = place.wait_for_phase("Serving")["engine"]["active"]

    place.change("llmjp-tiny-cpu", spec)
    condition = place.wait_for_reason("EngineReady", reason)
    assert f"({code})" in condition["message"]
    status = place.status()
    assert status["phase"] == "Degraded"
    assert status["engine"]["active"] == old
    assert status["build"]["failure"]["code"] == code
    with Client(place.address()) as client:
        reply = client.chat([{"role": "user", "content": QUESTION}], top_k=1)
        assert reply.text == ANSWER

    place.replace(place.tiny())
    place.wait_for_phase("Serving")


def test_an_engine_that_does_not_load_stops_the_rollout(place: Place) -> None:
    place.apply(place.tiny())
    old = place.wait_for_phase("Serving")["engine"]["active"]

    place.change("llmjp-tiny-cpu", {"engine": {"tensorParallel": 2}})
    new = place.wait_for_phase("Serving")["engine"]["active"]
    artefact = place.store() / "artefacts" / old
    shutil.move(artefact / "rank0.safetensors", artefact / "hidden")

    place.change("llmjp-tiny-cpu", {"engine": {"tensorParallel": 1}})
    condition = place.wait_for_reason("Progressing", "RollingOut")
    place.wait_for(
        "the pod's own words",
        lambda s: any("rank0.safetensors" in c["message"] for c in s["conditions"]),
    )
    condition = place.condition("Progressing")
    assert "is missing" in condition["message"]
    assert place.status()["engine"]["active"] == new
    with Client(place.address()) as client:
        reply = client.chat([{"role": "user", "content": QUESTION}], top_k=1)
        assert reply.text == ANSWER

    # Mended: the file is back, and the rollout goes on by itself.
    shutil.move(artefact / "hidden", artefact / "rank0.safetensors")
    place.wait_for_phase("Serving")
    assert place.status()["engine"]["active"] == old
