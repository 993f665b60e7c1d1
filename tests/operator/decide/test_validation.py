"""Problems that keep anything from beginning, with the sentences that people see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llmjp_operator.decide.placement import find_build_deadlock, find_incompatibility
from llmjp_operator.decide.validation import find_problem
from llmjp_operator.observe.snapshot import CalibrationTexts, ObservedClaim
from llmjp_operator.settings import Settings
from tests.operator.factories import (
    SETTINGS,
    make_artefact,
    make_deployment,
    make_engine_model,
    make_model,
    make_node,
    make_snapshot,
)
from tests.operator.model_bodies import Object


def reason(changes: Object, settings: Settings = SETTINGS, **values: Any) -> tuple[str, str]:
    model = make_engine_model(changes)
    found = find_problem(model, make_snapshot(model, **values), settings)
    return ("", "") if found is None else (found.reason, found.message)


def hub(repository: str, accepted: str | None = None) -> Object:
    licence = {"licence": {"accepted": accepted}} if accepted else {}
    return {"source": {"huggingFace": {"repository": repository}}, **licence}


INSTRUCT3 = "llm-jp/llm-jp-3-172b-instruct3"
TP4 = {"engine": {"backend": "tensorrt", "quantization": "fp8", "tensorParallel": 4}}


@pytest.mark.parametrize(
    ("repository", "accepted", "blocked"),
    [
        (INSTRUCT3, None, True),
        (INSTRUCT3, "llm-jp-3-172b-instruct2-tou", True),
        (INSTRUCT3, "llm-jp-3-172b-instruct3-tou", False),
        ("llm-jp/llm-jp-3-172b-alpha1", None, False),
        ("llm-jp/llm-jp-3-172b-alpha2-instruct", None, False),
        ("llm-jp/llm-jp-3-172b-beta1", None, True),
        ("somebody/llm-jp-3-172b-instruct3-copy", None, True),
        ("llm-jp/llm-jp-3-13b-instruct3", None, False),
    ],
)
def test_models_with_terms_need_them_accepted(
    repository: str, accepted: str | None, blocked: bool
) -> None:
    found, message = reason(hub(repository, accepted) | TP4)
    assert (found == "LicenceNotAccepted") is blocked
    if blocked:
        assert "https://huggingface.co/llm-jp/" in message
        assert "spec.licence.accepted: llm-jp-3-172b" in message
        assert "Nothing was downloaded" in message


def test_a_backend_that_nobody_serves() -> None:
    assert reason({"engine": {"backend": "vllm"}, "hardware": None})[0] == "BackendNotServed"


def test_more_gpus_than_a_node_has() -> None:
    found, message = reason(
        {"engine": {"backend": "tensorrt", "tensorParallel": 8, "pipelineParallel": 2}}
    )
    assert found == "SeveralNodesNeeded"
    assert "16 GPUs, but a node has 8" in message


def test_an_operator_without_the_images() -> None:
    found, message = reason({}, replace(SETTINGS, images={"cpu": SETTINGS.images["cpu"]}))
    assert found == "ImageMissing"
    assert "images for 1.2.1" in message


@pytest.mark.parametrize(
    "changes",
    [
        {"source": {"huggingFace": None, "persistentVolumeClaim": {"claimName": "c"}}},
        {"storage": {"size": None, "existingClaim": "c"}},
    ],
)
def test_a_missing_claim_is_a_problem(changes: Object) -> None:
    assert reason(changes)[0] == "ClaimMissing"
    there = ObservedClaim(name="c", access_modes=("ReadWriteMany",))
    assert reason(changes, claims={"c": there}) == ("", "")
    assert "is being deleted" in reason(changes, claims={"c": replace(there, deleting=True)})[1]


def test_missing_calibration_texts_are_a_problem() -> None:
    missing = CalibrationTexts(digest="", problem="there is no ConfigMap texts")
    assert reason({}, texts=missing)[0] == "TextsMissing"
    assert reason({}, texts=CalibrationTexts(digest="d")) == ("", "")


def once(**serving: Any) -> Object:
    return {"storage": {"size": "1Gi", "accessMode": "ReadWriteOnce"}, "serving": serving}


@pytest.mark.parametrize(
    ("serving", "gpus", "expected"),
    [
        ({"replicas": 2}, 1, "2 replicas of 1 GPUs need 2"),
        ({"replicas": 2, "maxSurge": 0}, 2, ""),
        ({"replicas": 2}, 2, "set serving.maxSurge: 0"),
        ({"replicas": 2}, 3, ""),
        ({"replicas": 0}, 1, ""),
    ],
)
def test_pods_that_share_a_node_must_fit_on_it(serving: Object, gpus: int, expected: str) -> None:
    found, message = reason(once(**serving), nodes=(make_node(gpus=gpus),))
    assert (found == "StorageWouldDeadlock") is bool(expected)
    assert expected in message


def test_nothing_is_said_of_nodes_that_nobody_may_see() -> None:
    assert reason(once(replicas=9)) == ("", "")


def test_a_volume_for_many_nodes_deadlocks_nowhere() -> None:
    many = {"serving": {"replicas": 9}}
    assert reason(many, nodes=(make_node(gpus=1),)) == ("", "")


@pytest.mark.parametrize(("gpus", "refused"), [(1, True), (2, False)])
def test_a_build_beside_serving_must_fit_on_the_node(gpus: int, refused: bool) -> None:
    model = make_engine_model(once(replicas=1, maxSurge=0))
    now = make_snapshot(model, nodes=(make_node(gpus=gpus),), deployment=make_deployment())
    assert (find_build_deadlock(model, now, 1) is not None) is refused
    assert find_build_deadlock(model, now, 0) is None
    idle = make_snapshot(model, nodes=(make_node(gpus=gpus),))
    assert find_build_deadlock(model, idle, 1) is None


FITS = {
    "gpu_product": "NVIDIA H100 80GB HBM3",
    "compute_capability": "9.0",
    "tensorrt_llm": "1.2.1",
}


@pytest.mark.parametrize(
    ("built_for", "node", "expected"),
    [
        (FITS, {}, None),
        (FITS | {"tensorrt_llm": "1.2.0"}, {}, "tensorrt-llm 1.2.0"),
        (FITS | {"tensorrt": "10.13.0"}, {}, "tensorrt 10.13.0"),
        (FITS | {"gpu_product": "NVIDIA L4"}, {}, "built on NVIDIA L4"),
        (FITS | {"compute_capability": "8.9"}, {}, "compute capability 8.9, but node n has 9.0"),
        (FITS, {"nvidia.com/gpu.compute.major": "10"}, "node n has 10.0"),
    ],
)
def test_engines_that_would_not_load(
    built_for: dict[str, str], node: dict[str, str], expected: str | None
) -> None:
    found = find_incompatibility(
        make_engine_model().spec, make_artefact(**built_for), (make_node(labels=node),)
    )
    assert found is None if expected is None else expected in (found or "")


def test_torch_needs_no_images_for_gpus() -> None:
    model = make_model()
    settings = replace(SETTINGS, images={"cpu": SETTINGS.images["cpu"]})
    assert find_problem(model, make_snapshot(model), settings) is None


TOKEN = {"tokenSecretRef": {"name": "s"}}


@pytest.mark.parametrize(
    ("endpoint", "hosts", "allowed"),
    [
        (None, ("huggingface.co",), True),
        (None, ("hub.example.com",), False),
        ("https://huggingface.co", ("huggingface.co",), True),
        ("https://HuggingFace.co/", ("huggingface.co",), True),
        ("http://huggingface.co", ("huggingface.co",), False),
        ("https://huggingface.co.evil.example.com", ("huggingface.co",), False),
        ("https://evil.example.com/huggingface.co", ("huggingface.co",), False),
        ("https://evil.example.com#huggingface.co", ("huggingface.co",), False),
        ("https://huggingface.co:8443", ("huggingface.co",), False),
        ("https://hub.example.com:8443", ("hub.example.com:8443",), True),
        ("http://hub.svc:80", ("http://hub.svc:80",), True),
        ("https://hub.svc:80", ("http://hub.svc:80",), False),
    ],
)
def test_a_token_goes_to_allowed_hosts_only(
    endpoint: str | None, hosts: tuple[str, ...], allowed: bool
) -> None:
    settings = replace(SETTINGS, token_hosts=hosts)
    hub = TOKEN | ({"endpoint": endpoint} if endpoint else {})
    model = make_model({"source": {"huggingFace": hub}})
    problem = find_problem(model, make_snapshot(model), settings)
    assert (problem is None) == allowed
    assert problem is None or problem.reason == "TokenNotAllowed"
    without = make_model({"source": {"huggingFace": {"endpoint": endpoint}}} if endpoint else None)
    assert find_problem(without, make_snapshot(without), settings) is None
