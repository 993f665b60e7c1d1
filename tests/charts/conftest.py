"""helm, and a control plane that the chart has to itself."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.fixtures import start_or_skip
from hack.local_cluster import Cluster, Kubectl, Options
from scripts.chart_files import NoHelm, find_tools
from tests.charts.charts import Chart, Releases


@pytest.fixture(scope="session")
def chart_tools() -> Path:
    """The folder with helm and its like; builds it once, skips where there is no Go."""
    try:
        return find_tools()
    except NoHelm as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="session")
def chart(chart_tools: Path) -> Chart:
    return Chart(chart_tools / "helm")


@pytest.fixture(scope="session")
def chart_plane(chart_tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane of our own in every case: releases take the CRD, with all models, along."""
    options = Options(logs=tmp_path_factory.mktemp("charts"))
    with start_or_skip("control-plane", options) as cluster:
        yield cluster
        cluster.check()


@pytest.fixture
def place(chart_plane: Cluster) -> Iterator[Kubectl]:
    """kubectl in a fresh namespace."""
    name = f"chart-{secrets.token_hex(4)}"
    chart_plane.kubectl("create", "namespace", name)
    yield chart_plane.kubectl.within(name)
    chart_plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def releases(chart: Chart, place: Kubectl) -> Iterator[Releases]:
    """helm in that namespace; what is left of its releases and of the CRD leaves with the test."""
    releases = Releases(chart.helm, place)
    yield releases
    for name in releases("list", "--short").split():
        releases("uninstall", name)
    place("delete", "crd", "llmjpmodels.serving.llmjp.dev", "--ignore-not-found")
