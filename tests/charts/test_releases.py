"""A release from install to uninstall on a real API server, and what becomes of models."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.local_cluster import Kubectl, wait_until
from llmjp_operator.names import CRD, PLURAL
from scripts.chart_files import CHART
from tests.charts.charts import Releases
from tests.operator.model_bodies import make_model_body
from tests.support.shared import ROOT

pytestmark = pytest.mark.cluster

KINDS = (
    "deployments,services,configmaps,serviceaccounts,networkpolicies,poddisruptionbudgets,"
    "roles,rolebindings,clusterroles,clusterrolebindings"
)


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The chart as it might have been: a definition with fewer columns."""
    chart = tmp_path / "older"
    shutil.copytree(ROOT / CHART, chart)
    path = chart / "files/crd.yaml"
    definition = yaml.safe_load(path.read_text("utf-8"))
    [version] = definition["spec"]["versions"]
    version["additionalPrinterColumns"] = version["additionalPrinterColumns"][:2]
    path.write_text(yaml.safe_dump(definition), "utf-8")
    return chart


def columns(kubectl: Kubectl) -> int:
    [version] = kubectl.get("crd", CRD)["spec"]["versions"]
    return len(version["additionalPrinterColumns"])


def created(kubectl: Kubectl) -> str:
    """uid of a model, once the API server serves its kind."""
    kubectl.wait(f"crd/{CRD}", "condition=Established")
    [stored] = kubectl.apply(make_model_body(name="kept"))
    uid: str = stored["metadata"]["uid"]
    return uid


def uid(kubectl: Kubectl) -> str:
    found: str = kubectl.get(PLURAL, "kept")["metadata"]["uid"]
    return found


def left(kubectl: Kubectl) -> list[Any]:
    """Everything of a release, in all namespaces."""
    label = "--selector=app.kubernetes.io/part-of=llmjp-serving"
    found = kubectl.get(KINDS, label, "--all-namespaces")["items"]
    return [(item["kind"], item["metadata"]["name"]) for item in found]


def test_an_upgrade_changes_the_definition_and_keeps_models(
    releases: Releases, place: Kubectl, older: Path
) -> None:
    releases.install(chart=older)
    assert columns(place) == 2
    before = created(place)

    releases.install()
    assert columns(place) > 2
    assert uid(place) == before

    releases("rollback", "llmjp-operator", "1")
    assert columns(place) == 2
    assert uid(place) == before


def test_uninstalling_leaves_the_definition_and_models_and_nothing_else(
    releases: Releases, place: Kubectl
) -> None:
    printed = releases.install()
    assert "kubectl get ljm --watch" in printed
    before = created(place)
    assert left(place)

    assert f"[CustomResourceDefinition] {CRD}" in releases("uninstall", "llmjp-operator")
    wait_until("everything else is gone", lambda: (not left(place), left(place)))
    assert uid(place) == before

    releases.install()  # of the same name: it takes the definition back
    assert uid(place) == before
    releases("uninstall", "llmjp-operator")

    refused = releases.attempt("install", "another", str(ROOT / CHART))
    assert "invalid ownership metadata" in refused.stderr
    releases("install", "another", str(ROOT / CHART), "--take-ownership")
    assert uid(place) == before


def test_a_definition_that_is_left_to_others_stays(releases: Releases, place: Kubectl) -> None:
    releases.install()
    before = created(place)
    releases.install("llmjp-operator", "--set=crds.enabled=false")
    assert uid(place) == before


def test_a_definition_goes_with_the_release_if_asked_to(releases: Releases, place: Kubectl) -> None:
    releases.install("llmjp-operator", "--set=crds.keep=false")
    created(place)
    releases("uninstall", "llmjp-operator")

    def look() -> tuple[bool, str]:
        found = place("get", "crd", CRD, "--ignore-not-found", "--output=name")
        return not found, found

    wait_until("the definition is gone", look)


def test_the_same_again_changes_nothing(releases: Releases, place: Kubectl) -> None:
    def versions() -> dict[tuple[str, str], Any]:
        found = place.get(KINDS, "--selector=app.kubernetes.io/part-of=llmjp-serving")["items"]
        # A Deployment's controller writes its status, which is no generation.
        return {
            (item["kind"], item["metadata"]["name"]): item["metadata"][
                "generation" if item["kind"] == "Deployment" else "resourceVersion"
            ]
            for item in found
        }

    releases.install()
    before = versions()
    assert ("Deployment", "llmjp-operator") in before
    releases.install()
    assert versions() == before


def test_install_yaml_and_a_release_make_the_same_objects(
    releases: Releases, place: Kubectl
) -> None:
    releases.install("llmjp-operator", "--no-hooks")
    made = set(left(place))
    documents = yaml.safe_load_all((ROOT / "manifests/install.yaml").read_text("utf-8"))
    listed = {(found["kind"], found["metadata"]["name"]) for found in documents}
    assert made == listed - {("Namespace", "llmjp-system"), ("CustomResourceDefinition", CRD)}
