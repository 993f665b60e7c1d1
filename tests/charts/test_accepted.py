"""What a real API server says of the renders: fields, PodSecurity."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.local_cluster import Cluster, Kubectl, wait_until
from hack.local_cluster.errors import KubectlFailed
from llmjp_operator.names import CRD
from scripts.chart_files import NAMESPACE
from tests.charts.charts import Chart, Object
from tests.support.shared import ROOT

pytestmark = pytest.mark.cluster

RENDERS = [ROOT / "manifests/install.yaml", *sorted((ROOT / "tests/charts/golden").iterdir())]
NAMESPACES = (NAMESPACE, "team-a", "team-b")


@pytest.fixture(scope="module")
def administrator(chart_plane: Cluster) -> Iterator[Kubectl]:
    """kubectl where the namespaces of the renders exist."""
    kubectl = chart_plane.kubectl
    for name in NAMESPACES:
        kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield kubectl
    kubectl("delete", "namespace", *NAMESPACES, "--wait=false", "--ignore-not-found")


def taken(administrator: Kubectl, objects: list[Object]) -> str:
    """What kubectl prints once the API server would take all of them; unknown fields are errors."""
    text = "\n---\n".join(map(json.dumps, objects))
    options = ("--server-side", "--dry-run=server", "--validate=strict", "--filename=-")
    return administrator("apply", *options, stdin=text)


@pytest.mark.parametrize("path", RENDERS, ids=lambda path: path.name)
def test_a_render_is_taken(administrator: Kubectl, path: Path) -> None:
    # The Prometheus operator's kinds are held against its Go types instead (test_values.py).
    objects = [
        found
        for found in yaml.safe_load_all(path.read_text("utf-8"))
        if not found["apiVersion"].startswith("monitoring.coreos.com/")
    ]
    printed = taken(administrator, objects)
    assert printed.count("serverside-applied (server dry run)") == len(objects)


def test_install_yaml_is_enough(administrator: Kubectl) -> None:
    """Its own namespace is restricted, and its Deployment gets its pod there."""
    manifest = f"--filename={ROOT / 'manifests/install.yaml'}"
    administrator("apply", "--server-side", manifest)
    try:
        administrator.wait(f"crd/{CRD}", "condition=Established")

        def look() -> tuple[bool, Any]:
            pods = administrator.within(NAMESPACE).get("pods")["items"]
            return len(pods) == 1, [pod["metadata"]["name"] for pod in pods]

        wait_until("the operator's pod is made", look)
    finally:
        administrator("delete", manifest, "--wait=false", "--ignore-not-found")


def test_an_unknown_field_would_be_noticed(administrator: Kubectl, chart: Chart) -> None:
    service = chart.one("Service")
    service["spec"]["selectr"] = {}
    with pytest.raises(KubectlFailed, match="selectr"):
        taken(administrator, [service])


@pytest.fixture
def restricted(place: Kubectl) -> Kubectl:
    """A namespace that takes pods of PodSecurity level restricted only."""
    level = "pod-security.kubernetes.io/enforce=restricted"
    place("label", "namespace", place.namespace, level)
    return place


def pods(objects: list[Object], namespace: str) -> Iterator[Object]:
    """The pod of helm test, and one as the Deployment would make it."""
    for found in objects:
        if found["kind"] == "Pod":
            metadata = {"name": found["metadata"]["name"], "namespace": namespace}
            yield {**found, "metadata": metadata}
        if found["kind"] == "Deployment":
            spec = found["spec"]["template"]["spec"]
            metadata = {"name": "operator", "namespace": namespace}
            yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize(
    "values",
    [{}, {f"podSecurityContext.{name}": None for name in ("runAsUser", "runAsGroup", "fsGroup")}],
    ids=["default", "openshift"],
)
def test_pods_are_restricted(restricted: Kubectl, chart: Chart, values: dict[str, Any]) -> None:
    objects = chart.render(values)
    [account] = [found for found in objects if found["kind"] == "ServiceAccount"]
    restricted.apply({**account, "metadata": {"name": account["metadata"]["name"]}})
    made = list(pods(objects, restricted.namespace))
    assert len(made) == 2
    for pod in made:
        restricted.apply(pod, options=["--dry-run=server"])
        loose = copy.deepcopy(pod)
        del loose["spec"]["containers"][0]["securityContext"]["capabilities"]
        with pytest.raises(KubectlFailed, match="violates PodSecurity"):
            restricted.apply(loose, options=["--dry-run=server"])
