"""What the chart renders: held against files in the tree, and against what reads it."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from llmjp_operator.act.metrics import Metrics
from llmjp_operator.observe.cache import ObjectCache
from llmjp_operator.runtimes import RUNTIMES
from llmjp_operator.settings import Settings, parse_settings
from scripts.chart_files import CHART, render_files
from tests.charts.charts import Chart
from tests.support.shared import ROOT


@pytest.fixture(scope="session")
def current(chart: Chart) -> dict[str, str]:
    """The renders that are kept in the tree, made anew; UPDATE_GOLDEN=1 keeps them."""
    made = render_files(chart.helm)
    if os.environ.get("UPDATE_GOLDEN") == "1":
        for name, text in made.items():
            (ROOT / name).write_text(text, encoding="utf-8")
    return made


@pytest.mark.parametrize(
    "name",
    [
        "manifests/install.yaml",
        *(f"tests/charts/golden/{case}.yaml" for case in ("default", "namespaced", "ha")),
        "tests/charts/golden/everything.yaml",
    ],
)
def test_current(current: dict[str, str], name: str) -> None:
    assert (ROOT / name).read_text("utf-8") == current[name], "run make generate"


def test_no_other_render_is_kept(current: dict[str, str]) -> None:
    kept = {path.name for path in (ROOT / "tests/charts/golden").iterdir()}
    assert kept == {name.rpartition("/")[2] for name in current if "/golden/" in name}


def settings_of(chart: Chart, values: dict[str, Any]) -> Settings:
    """As the operator's process reads them from its environment and the mounted file."""
    objects = chart.render(values)
    [text] = [o["data"]["settings.json"] for o in objects if o["kind"] == "ConfigMap"]
    [deployment] = [o for o in objects if o["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    environ = {e["name"]: e.get("value", "from the pod") for e in container["env"]}
    return parse_settings(environ, text)


def test_the_operator_takes_its_settings_with_its_own_defaults(chart: Chart) -> None:
    read = settings_of(chart, {})
    itself = "from the pod"
    defaults = Settings(namespace=itself, identity=itself, images=read.images, version=read.version)
    assert read == defaults
    assert set(read.images) == {"cpu", *RUNTIMES}


def test_the_operator_takes_every_setting(chart: Chart) -> None:
    peer = {"namespaceSelector": {"matchLabels": {"a": "b"}}}
    read = settings_of(
        chart,
        {
            "watchNamespaces": ["a", "b"],
            "imagePullPolicy": "Always",
            "imagePullSecrets": [{"name": "s"}],
            "network": {
                "enabled": False,
                "clusterCidrs": [],
                "buildEgress": [{"to": [peer]}],
                "servingFrom": [peer],
                "metricsFrom": [peer],
            },
            "leaderElection": {"leaseSeconds": 30, "renewSeconds": 20, "retrySeconds": 4},
            "logLevel": "debug",
            "resyncSeconds": 60,
            "upgradePolicy": "Roll",
            "upgradesAtOnce": 3,
            "tokenHosts": ["hub.example.com:8443"],
        },
    )
    assert read.watch_namespaces == ("a", "b")
    assert read.image_pull_policy == "Always"
    assert read.image_pull_secrets == ("s",)
    assert not read.network.enabled
    assert read.network.cluster_cidrs == ()
    assert read.network.build_egress == ({"to": [peer]},)
    assert read.network.serving_from == read.network.metrics_from == (peer,)
    assert read.leader_election.lease_seconds == 30
    assert read.log_level == "debug"
    assert read.resync_seconds == 60
    assert read.token_hosts == ("hub.example.com:8443",)
    assert (read.upgrade_policy, read.upgrades_at_once) == ("Roll", 3)


def checksum(chart: Chart, values: dict[str, Any]) -> str:
    deployment = chart.one("Deployment", values)
    found = deployment["spec"]["template"]["metadata"]["annotations"]["checksum/settings"]
    assert isinstance(found, str)
    return found


def test_pods_start_anew_when_their_settings_change_and_only_then(chart: Chart) -> None:
    before = checksum(chart, {})
    assert checksum(chart, {"replicas": 2}) == before
    assert checksum(chart, {"logLevel": "debug"}) != before
    assert checksum(chart, {"images.cpu.builder.tag": "7"}) != before


def test_alerts_are_about_metrics_that_the_operator_has(chart: Chart) -> None:
    rule = chart.one("PrometheusRule", {"prometheusRule.enabled": True})
    text = generate_latest(Metrics(ObjectCache()).registry).decode()
    known = {line.split("{")[0].split()[0] for line in text.splitlines() if line[0] != "#"}
    [group] = rule["spec"]["groups"]
    for alert in group["rules"]:
        used = set(re.findall(r"llmjp_\w+", alert["expr"]))
        assert used, alert
        assert used <= known, alert


def test_a_package_has_neither_tests_nor_their_values(chart: Chart, tmp_path: Path) -> None:
    command = [str(chart.helm), "package", str(ROOT / CHART), f"--destination={tmp_path}"]
    subprocess.run(command, check=True, capture_output=True)
    [package] = tmp_path.iterdir()
    with tarfile.open(package) as archive:
        names = {name.removeprefix("llmjp-operator/") for name in archive.getnames()}
    assert {"README.md", "values.schema.json", "templates/tests/check.yaml"} <= names
    assert not [name for name in names if name.startswith(("tests/", "ci/"))]
