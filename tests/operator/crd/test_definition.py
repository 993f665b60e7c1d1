"""The custom resource on a real API server: defaults, subresources, columns, upgrades."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hack.local_cluster import Cluster, Kubectl, wait_until
from llmjp_operator.api import encode, parse_model
from llmjp_operator.crd.definition import COLUMNS, build_definition
from tests.operator.conftest import Models
from tests.operator.crd.rule_cases import CASES
from tests.operator.model_bodies import SPEC, Object, make_model_body

pytestmark = pytest.mark.cluster

SERVING_STATUS: Object = {
    "observedGeneration": 1,
    "phase": "Serving",
    "conditions": [
        {
            "type": "Progressing",
            "status": "False",
            "lastTransitionTime": "2026-01-02T03:04:05Z",
            "reason": "UpToDate",
            "message": "serves what the spec describes",
        },
        {
            "type": "Ready",
            "status": "True",
            "lastTransitionTime": "2026-01-02T03:04:05Z",
            "reason": "Complete",
        },
        {
            "type": "Reconciling",
            "status": "True",
            "lastTransitionTime": "2026-01-02T03:04:05Z",
            "reason": "Complete",
            "message": "rolls a label out",
        },
    ],
    "source": {"revision": "4f0c", "digest": "9d1e"},
    "engine": {
        "key": "3f9c0123456789abcdef",
        "active": "3f9c0123456789abcdef",
        "cacheHit": False,
        "computeCapability": "9.0",
        "trtllmVersion": "1.2.1",
    },
    "build": {
        "job": "ljm-build-3f9c",
        "step": "convert",
        "percent": 41,
        "etaSeconds": 380,
        "failure": {
            "code": "not_enough_disk",
            "step": "convert",
            "message": "full",
            "retryable": True,
        },
    },
    "replicas": 1,
    "readyReplicas": 1,
    "ready": "1/1",
    "selector": "serving.llmjp.dev/model=a",
    "endpoint": {"grpc": "a.default.svc:8001", "http": "a.default.svc:8000", "model": "llmjp"},
}


def test_defaults_are_those_of_the_values(models: Models) -> None:
    stored = models.create(make_model_body()).body
    assert stored["spec"] == encode(parse_model(make_model_body()).spec)
    assert stored["spec"] != SPEC


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path)
def test_what_is_stored_is_what_is_read(models: Models, case: Any) -> None:
    stored = models.create(make_model_body(case.accepted)).body
    assert parse_model(stored).spec == parse_model(make_model_body(case.accepted)).spec


def test_defaults_fill_what_is_left_out_of_an_object_that_is_there(models: Models) -> None:
    stored = models.create(
        make_model_body({"serving": {"replicas": 0}, "storage": {"size": 5}})
    ).body
    assert stored["spec"]["serving"]["drainSeconds"] == 120
    assert stored["spec"]["storage"]["size"] == 5
    assert parse_model(stored).spec.storage.size == "5"


def test_a_new_default_changes_no_model_that_exists(
    cluster_with_crd: Cluster, namespace: Kubectl
) -> None:
    kubectl = cluster_with_crd.kubectl
    namespace.apply(make_model_body(name="old"))
    newer = json.loads(json.dumps(build_definition()))
    spec = newer["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["runtime"]["default"] = {"version": "9.9.9"}
    spec["properties"]["runtime"]["properties"]["version"] |= {
        "enum": ["1.2.1", "9.9.9"],
        "default": "9.9.9",
    }
    try:
        kubectl.apply(newer)
        wait_for_default(namespace, "9.9.9")
        [again] = namespace.apply(make_model_body({"serving": {"replicas": 2}}, name="old"))
        assert again["spec"]["runtime"]["version"] == "1.2.1"
    finally:
        kubectl.apply(build_definition())
        wait_for_default(namespace, "1.2.1")


def wait_for_default(namespace: Kubectl, version: str) -> None:
    """Until the API server serves the schema that it was given."""

    def look() -> tuple[bool, str]:
        [fresh] = namespace.apply(make_model_body(name="new"), options=["--dry-run=server"])
        found = fresh["spec"]["runtime"]["version"]
        return found == version, found

    wait_until(f"default runtime {version}", look)


def test_the_scale_subresource_sets_replicas(cluster_with_crd: Cluster, namespace: Kubectl) -> None:
    namespace.apply(make_model_body())
    namespace.patch_status("ljm/a", SERVING_STATUS)
    namespace("scale", "ljm/a", "--replicas=3", "--current-replicas=1")
    assert namespace.get("ljm", "a")["spec"]["serving"]["replicas"] == 3
    scale = json.loads(namespace("get", "ljm", "a", "--subresource=scale", "--output=json"))
    assert scale["spec"] == {"replicas": 3}
    assert scale["status"] == {"replicas": 1, "selector": "serving.llmjp.dev/model=a"}


def test_status_is_kept_whole_and_apart(cluster_with_crd: Cluster, namespace: Kubectl) -> None:
    namespace.apply(make_model_body() | {"status": {"phase": "Failed"}})
    assert "status" not in namespace.get("ljm", "a")
    namespace.patch_status("ljm/a", SERVING_STATUS)
    stored = namespace.get("ljm", "a")
    assert stored["status"] == SERVING_STATUS
    assert stored["metadata"]["generation"] == 1
    status = parse_model(stored).status
    assert status.build.failure is not None
    assert status.build.failure.retryable
    assert encode(status) == SERVING_STATUS


def test_kubectl_get_shows_the_columns(cluster_with_crd: Cluster, namespace: Kubectl) -> None:
    namespace.apply(make_model_body())
    namespace.patch_status("ljm/a", SERVING_STATUS)
    header, row = namespace("get", "ljm").splitlines()
    assert header.split() == ["NAME", "PHASE", "REASON", "READY", "BACKEND", "PROGRESS", "AGE"]
    assert row.split()[:-1] == ["a", "Serving", "Complete", "1/1", "tensorrt", "41"]

    wide = namespace("get", "ljm", "--output=wide").splitlines()
    assert wide[0].split() == ["NAME", *(column.name.upper() for column in COLUMNS)]
    assert wide[1].rstrip().endswith("convert   rolls a label out")
    assert "llmjpmodel.serving.llmjp.dev/a" in namespace("get", "llmjp", "--output=name")


def test_kubectl_can_explain_every_field(cluster_with_crd: Cluster) -> None:
    printed = cluster_with_crd.kubectl("explain", "ljm.spec.storage.onDelete")
    assert "What happens to the volume when the model is deleted." in printed
    assert "ENUM:\n    Retain\n    Delete" in printed


def test_a_client_side_apply_can_store_the_definition() -> None:
    # kubectl apply keeps the whole object in an annotation, which may have 262144 bytes.
    assert len(json.dumps(build_definition())) < 200_000
