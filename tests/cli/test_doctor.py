"""`llmjp doctor`: what it judges, and a real API server that it asks."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from hack.local_cluster import Cluster, Kubectl
from llmjp_cli.cluster.doctor import checks
from llmjp_cli.cluster.doctor.checks import ClusterOverview, Diagnosis, Level, Unknown
from llmjp_cli.cluster.doctor.gpus import check_gpus
from llmjp_cli.cluster.doctor.models import check_models, list_references
from llmjp_cli.commands.doctor import diagnose_cluster
from llmjp_operator.crd.definition import build_definition
from llmjp_operator.names import CRD
from tests.operator.model_bodies import make_model_body

Object = dict[str, Any]

NO = Unknown("403")
H100 = "NVIDIA-H100-80GB-HBM3"
NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def overview(**changes: Any) -> ClusterOverview:
    everything: Object = {
        **dict.fromkeys((field.name for field in dataclasses.fields(ClusterOverview)), NO),
        "namespace": "ns",
        "now": NOW,
        "rights": dict.fromkeys(checks.RIGHTS, NO),
    }
    return ClusterOverview(**{**everything, **changes})


def node(name: str = "n", gpus: int = 8, driver: str = "590.44.01", **labels: str) -> Object:
    known = {
        "nvidia.com/gpu.product": H100,
        "nvidia.com/gpu.compute.major": "9",
        "nvidia.com/gpu.compute.minor": "0",
        "nvidia.com/cuda.driver-version.full": driver,
    }
    known |= {f"nvidia.com/{key.replace('_', '.')}": value for key, value in labels.items()}
    return {
        "metadata": {"name": name, "labels": {k: v for k, v in known.items() if v}},
        "status": {"allocatable": {"nvidia.com/gpu": str(gpus)}},
    }


def gpu_pod(node: str = "n", gpus: int = 2, phase: str = "Running") -> Object:
    limits = {"nvidia.com/gpu": str(gpus)}
    spec = {"nodeName": node, "containers": [{"resources": {"limits": limits}}, {}]}
    return {"spec": spec, "status": {"phase": phase}}


def test_what_one_may_not_know_is_said_and_fails_nothing() -> None:
    here = overview()
    findings = [*checks.check_cluster(here), *check_gpus(here), *check_models(here)]
    assert {finding.level for finding in findings} == {Level.UNKNOWN}
    assert {finding.message for finding in findings} == {"cannot tell, because 403"}


@pytest.mark.parametrize(
    ("major", "minor", "level"),
    [("1", "34", Level.OK), ("1", "29+", Level.OK), ("1", "28", Level.FAIL), ("2", "0", Level.OK)],
)
def test_version(major: str, minor: str, level: Level) -> None:
    answer = {"major": major, "minor": minor, "gitVersion": "v"}
    assert checks.check_version(answer).level is level


def installed() -> Object:
    return {
        **build_definition(),
        "status": {"conditions": [{"type": "Established", "status": "True"}]},
    }


def test_the_kind() -> None:
    assert checks.check_definition(installed()).level is Level.OK
    assert checks.check_definition(None).level is Level.FAIL
    assert checks.check_definition({**installed(), "status": {}}).level is Level.FAIL
    for change in ("more", "less", "other"):
        there = copy.deepcopy(installed())
        properties = there["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][
            "spec"
        ]["properties"]
        if change == "more":
            properties["new"] = {"type": "string"}
        elif change == "less":
            del properties["licence"]
        else:
            properties["licence"]["type"] = "string"
        finding = checks.check_definition(there)
        assert finding.level is Level.WARN
        assert "properties.spec.properties." in finding.message


def deployment(ready: int, wanted: int = 1) -> Object:
    metadata = {"name": "llmjp-operator", "namespace": "llmjp-system"}
    return {
        "metadata": metadata,
        "spec": {"replicas": wanted},
        "status": {"readyReplicas": ready} if ready else {},
    }


@pytest.mark.parametrize(
    ("deployments", "level"),
    [
        ([], Level.FAIL),
        ([deployment(0)], Level.FAIL),
        ([deployment(1, 2)], Level.WARN),
        ([deployment(1)], Level.OK),
        ([deployment(1), deployment(0)], Level.FAIL),
    ],
)
def test_operator(deployments: list[Object], level: Level) -> None:
    assert checks.check_operator(deployments).level is level


@pytest.mark.parametrize(
    ("spec", "level"),
    [
        (None, Level.WARN),
        ({}, Level.FAIL),
        ({"holderIdentity": "", "renewTime": "2026-01-01T00:00:00.000000Z"}, Level.FAIL),
        ({"holderIdentity": "x", "renewTime": "2025-12-31T23:59:50.000000Z"}, Level.OK),
        ({"holderIdentity": "x", "renewTime": "2025-12-31T23:59:00.000000Z"}, Level.FAIL),
    ],
)
def test_lease(spec: Object | None, level: Level) -> None:
    assert checks.check_lease(None if spec is None else {"spec": spec}, NOW).level is level


@pytest.mark.parametrize("asked", checks.RIGHTS)
def test_rights(asked: tuple[str, str, str]) -> None:
    assert checks.check_right(asked, True).level is Level.OK
    assert checks.check_right(asked, False).level is Level.WARN


def storage_class(name: str, provisioner: str, **more: Any) -> Object:
    return {
        "metadata": {"name": name, **more.pop("metadata", {})},
        "provisioner": provisioner,
        **more,
    }


def test_storage() -> None:
    assert [f.level for f in checks.check_storage_classes([])] == [Level.WARN]
    default = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    shared = storage_class("a", "rook-ceph.cephfs.csi.ceph.com", allowVolumeExpansion=True)
    single = storage_class("b", "ebs.csi.aws.com", metadata=default)
    assert [f.level for f in checks.check_storage_classes([shared, single])] == [
        Level.OK,
        Level.OK,
        Level.WARN,
    ]
    without = checks.check_storage_classes([shared])
    assert [f.level for f in without] == [Level.WARN, Level.OK]
    assert "volumes can grow" in without[1].message


def test_the_namespace() -> None:
    assert checks.check_pod_security(None, "ns").level is Level.FAIL
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    assert "restricted" in checks.check_pod_security({"metadata": {"labels": labels}}, "ns").message
    assert "nothing" in checks.check_pod_security({"metadata": {}}, "ns").message
    own = {"metadata": {"name": "a", "labels": {"app.kubernetes.io/managed-by": "llmjp-operator"}}}
    other = {"metadata": {"name": "deny-all"}}
    assert "deny-all" not in checks.check_network_policies([own]).message
    assert "deny-all" in checks.check_network_policies([own, other]).message


def by_check(findings: list[Diagnosis]) -> dict[str, Diagnosis]:
    return {finding.check: finding for finding in findings}


def test_gpus_by_kind_and_how_many_are_free() -> None:
    nodes = [
        node("n"),
        node("m", 4),
        node("k", 2, gpu_product="L4", gpu_compute_minor=""),
        node("c", 0),
    ]
    pods = [gpu_pod("n", 2), gpu_pod("n", 4, "Succeeded"), gpu_pod("m", 4), gpu_pod("", 8)]
    findings = by_check(check_gpus(overview(nodes=nodes, pods=pods)))
    assert findings[f"GPUs {H100}"].message == (
        "compute capability 9.0; 2 nodes, 12 GPUs, at most 8 on one; 6 free, at most 6 on one"
    )
    assert findings["GPUs L4"].message.startswith("compute capability not labelled; 1 nodes, 2")
    unknown = by_check(check_gpus(overview(nodes=nodes)))
    assert "free: cannot tell, because 403" in unknown[f"GPUs {H100}"].message


@pytest.mark.parametrize(
    ("there", "check", "level"),
    [
        ([], "GPUs", Level.WARN),
        ([node(gpus=0, gpu_present="true")], "node n", Level.WARN),
        ([node(gpu_product="")], "node n", Level.WARN),
        ([node(gpu_compute_major="")], "node n", Level.WARN),
        ([node()], "driver of n", Level.OK),
        ([node(driver="600.1")], "driver of n", Level.OK),
        ([node(driver="590.44")], "driver of n", Level.FAIL),
        ([node(driver="535.104.05")], "driver of n", Level.FAIL),
        ([node()], "RuntimeClass nvidia", Level.WARN),
    ],
)
def test_nodes(there: list[Object], check: str, level: Level) -> None:
    assert (
        by_check(check_gpus(overview(nodes=there, pods=[], runtime_classes=[])))[check].level
        is level
    )


def test_the_runtime_class() -> None:
    here = overview(nodes=[node()], runtime_classes=[{"metadata": {"name": "nvidia"}}])
    assert by_check(check_gpus(here))["RuntimeClass nvidia"].level is Level.OK


def a_model(changes: Object | None = None, phase: str = "Serving") -> Object:
    body = make_model_body(changes)
    body["metadata"] |= {"namespace": "ns", "uid": "u", "generation": 1}
    return {**body, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("changes", "nodes", "level"),
    [
        ({}, [node()], Level.OK),
        ({"engine": {"tensorParallel": 8}}, [node("a", 4), node("b", 4)], Level.FAIL),
        ({}, [node(gpu_product="L4")], Level.FAIL),
        ({}, NO, Level.UNKNOWN),
    ],
)
def test_gpus_of_a_model(changes: Object, nodes: Any, level: Level) -> None:
    here = overview(models=[a_model(changes)], nodes=nodes, claims=[])
    assert by_check(check_models(here))["model a: GPUs"].level is level


def test_a_model_on_cpus_needs_none() -> None:
    body = a_model({"engine": {"backend": "torch"}, "hardware": None})
    findings = check_models(overview(models=[body], nodes=[], claims=[]))
    assert [(f.check, f.level) for f in findings] == [("model a", Level.OK)]


def test_what_a_model_names() -> None:
    body = a_model(
        {
            "source": {
                "huggingFace": {"repository": "x/y", "tokenSecretRef": {"name": "token"}},
            },
            "storage": {"size": None, "existingClaim": "store"},
            "engine": {"quantization": "fp8", "calibration": {"configMapRef": {"name": "texts"}}},
            "serving": {"tls": {"secretName": "tls"}},
        },
        phase="Blocked",
    )
    assert list_references(body) == [("Secret", "token"), ("Secret", "tls"), ("ConfigMap", "texts")]
    exists = {("Secret", "token"): NO, ("Secret", "tls"): True, ("ConfigMap", "texts"): False}
    findings = by_check(
        check_models(overview(models=[body], nodes=[node()], claims=[], exists=exists))
    )
    assert {check: finding.level for check, finding in findings.items()} == {
        "model a": Level.FAIL,
        "model a: GPUs": Level.OK,
        "model a: claim store": Level.FAIL,
        "model a: Secret token": Level.UNKNOWN,
        "model a: Secret tls": Level.OK,
        "model a: ConfigMap texts": Level.FAIL,
    }


def test_a_model_of_another_release() -> None:
    body = a_model()
    body["spec"]["engine"] = {"backend": "new"}
    findings = check_models(overview(models=[body], nodes=[], claims=[]))
    assert findings[-1].level is Level.FAIL


def test_a_lost_volume() -> None:
    claim = {"metadata": {"name": "a-store"}, "status": {"phase": "Lost"}}
    findings = check_models(overview(models=[a_model()], nodes=[node()], claims=[claim]))
    assert "Lost" in findings[-1].message


# On a real API server.

APP = typer.Typer()
APP.command()(diagnose_cluster)


def llmjp(kubeconfig: Path, *arguments: str) -> Result:
    return CliRunner().invoke(APP, [*arguments, "--kubeconfig", str(kubeconfig)])


def levels(result: Result) -> dict[str, tuple[str, str]]:
    rows = json.loads(result.stdout)
    return {row["check"]: (row["level"], row["message"]) for row in rows}


@pytest.fixture
def cluster(control_plane: Cluster, namespace: Kubectl) -> Iterator[Kubectl]:
    """The kind, a node with GPUs, a model, no operator."""
    control_plane.kubectl.apply(build_definition())
    control_plane.kubectl.wait(f"crd/{CRD}", "condition=Established")
    machine = {"apiVersion": "v1", "kind": "Node", **node("doctor-gpus")}
    status = machine.pop("status")
    control_plane.kubectl.apply(machine)
    control_plane.kubectl.patch_status(
        "node/doctor-gpus", {**status, "capacity": status["allocatable"]}
    )
    secret = {"huggingFace": {"tokenSecretRef": {"name": "token"}}}
    namespace.apply(make_model_body({"source": secret}))
    yield namespace
    control_plane.kubectl("delete", "node", "doctor-gpus")


@pytest.mark.cluster
def test_an_administrator(cluster: Kubectl) -> None:
    result = llmjp(cluster.kubeconfig, "-n", cluster.namespace, "--json")
    assert result.exit_code == 1, result.output
    seen = levels(result)
    assert seen["API server"][0] == "ok"
    assert seen["kind LlmJpModel"] == ("ok", "installed, from this release")
    assert seen["operator"][0] == "fail"
    assert seen["right to create llmjpmodels"][0] == "ok"
    assert "8 free" in seen[f"GPUs {H100}"][1]
    assert seen["model a"] == ("ok", "is Pending")
    assert seen["model a: GPUs"][0] == "ok"
    assert seen["model a: Secret token"][0] == "fail"
    assert "cannot tell" not in {level for level, _ in seen.values()}

    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}}
    cluster.apply(secret)
    seen = levels(llmjp(cluster.kubeconfig, "-n", cluster.namespace, "--json"))
    assert seen["model a: Secret token"] == ("ok", "exists")
    report = llmjp(cluster.kubeconfig, "-n", cluster.namespace)
    assert report.exit_code == 1
    assert "helm install llmjp-operator" in report.stdout
    missing = llmjp(cluster.kubeconfig, "-n", "nowhere", "--json")
    assert levels(missing)["PodSecurity"][0] == "fail"


@pytest.mark.cluster
def test_somebody_without_rights(cluster: Kubectl, tmp_path: Path) -> None:
    cluster("create", "serviceaccount", "nobody")
    token = cluster("create", "token", "nobody").strip()
    kubeconfig = tmp_path / "kubeconfig"
    view = json.loads(cluster("config", "view", "--raw", "--flatten", "--output=json"))
    view["users"] = [{"name": view["users"][0]["name"], "user": {"token": token}}]
    kubeconfig.write_text(json.dumps(view))
    result = llmjp(kubeconfig, "-n", cluster.namespace, "--json")
    assert result.exit_code == 0, result.output
    seen = levels(result)
    assert seen["API server"][0] == "ok"
    assert seen["right to get pods"][0] == "warn"
    for check in (
        "kind LlmJpModel",
        "operator",
        "GPUs",
        "storage classes",
        "PodSecurity",
        "models",
    ):
        level, message = seen[check]
        assert level == "cannot tell"
        assert "403" in message


def test_nobody_answers(tmp_path: Path) -> None:
    document = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "x", "user": {}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(document))
    result = llmjp(tmp_path / "kubeconfig", "--json")
    assert result.exit_code == 1
    assert list(levels(result)) == ["API server"]
