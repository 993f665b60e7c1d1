"""values.yaml, its schema and the chart's card: complete, strict and true. Needs no cluster."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmjp_operator.crd.definition import build_definition
from llmjp_operator.names import CRD, KIND, VERSION
from scripts.chart_files import CHART
from scripts.chart_values import Value, leaves, replaced, table, values
from tests.charts.charts import Chart
from tests.support.shared import ROOT

FOLDER = ROOT / CHART
TREE = values((FOLDER / "values.yaml").read_text("utf-8"))
LEAVES = list(leaves(TREE))
SCHEMA = json.loads((FOLDER / "values.schema.json").read_text("utf-8"))
CARD = yaml.safe_load((FOLDER / "Chart.yaml").read_text("utf-8"))
ANNOTATIONS = {name.partition("/")[2]: text for name, text in CARD["annotations"].items()}
CI = sorted((FOLDER / "ci").glob("*-values.yaml"))


def set_in_suites() -> Iterator[tuple[str, ...]]:
    """Every path that a test of a suite sets."""
    for path in (FOLDER / "tests").glob("*_test.yaml"):
        for test in yaml.safe_load(path.read_text("utf-8"))["tests"]:
            for name, value in test.get("set", {}).items():
                yield from below(tuple(name.split(".")), value)


def below(path: tuple[str, ...], value: Any) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from below((*path, name), inner)


SET = set(set_in_suites())


@pytest.mark.parametrize("value", LEAVES, ids=lambda value: value.name)
def test_a_suite_says_what_a_value_changes(value: Value) -> None:
    assert value.path in SET


@pytest.mark.parametrize("value", LEAVES, ids=lambda value: value.name)
def test_a_value_is_described(value: Value) -> None:
    assert value.description.endswith("."), value.description
    assert value.section


def objects(schema: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(schema, Mapping):
        if "properties" in schema:
            yield schema
        for inner in schema.values():
            yield from objects(inner)


def test_the_schema_knows_every_value_and_no_other() -> None:
    assert all(found["additionalProperties"] is False for found in objects(SCHEMA))
    for value in LEAVES:
        found = SCHEMA
        for part in value.path:
            found = found["properties"][part]
        assert found["default"] == value.default, value.name


REFUSED = [
    ({"replica": 2}, r"'replica' not allowed"),
    ({"image.tga": "1"}, r"'/image'.*'tga' not allowed"),
    ({"replicas": "2"}, r"'/replicas': got string, want integer"),
    ({"replicas": -1}, r"'/replicas'.*minimum"),
    ({"image.tag": 1.2}, r"'/image/tag': got number, want string"),
    ({"image.digest": "abc"}, r"'/image/digest'.*sha256"),
    ({"image.repository": ""}, r"'/image/repository'.*minLength"),
    ({"images.gpu": {}}, r"'/images'.*'gpu' not allowed"),
    ({r"images.9\.9\.9": {"builder": {"repo": "x"}}}, r"'repo' not allowed"),
    ({"imagePullPolicy": "Sometimes"}, r"'/imagePullPolicy'.*'IfNotPresent'"),
    ({"imagePullSecrets": ["regcred"]}, r"'/imagePullSecrets/0': got string, want object"),
    ({"watchNamespaces": "a"}, r"'/watchNamespaces': got string, want array"),
    ({"watchNamespaces": ["a", "a"]}, r"'/watchNamespaces'.*equal"),
    ({"watchNamespaces": ["a_b"]}, r"'/watchNamespaces/0'.*pattern"),
    ({"rbac.scope": "namespace"}, r"'/rbac/scope'.*'namespaced'"),
    ({"logLevel": "loud"}, r"'/logLevel'.*'debug'"),
    ({"podAnnotations": {"a": 1}}, r"'/podAnnotations/a': got number, want string"),
    ({"networkPolicy.apiServerPorts": []}, r"'/networkPolicy/apiServerPorts'.*minItems"),
    ({"networkPolicy.apiServerCidrs": ["10.0.0.1"]}, r"'/networkPolicy/apiServerCidrs/0'"),
    ({"podDisruptionBudget.maxUnavailable": 0}, r"'/podDisruptionBudget/maxUnavailable'.*minimum"),
    ({"extraEnv": [{"value": "x"}]}, r"'/extraEnv/0': missing property 'name'"),
    ({"serviceMonitor.interval": 30}, r"'/serviceMonitor/interval': got number, want string"),
]


@pytest.mark.parametrize(("given", "sentence"), REFUSED, ids=lambda part: str(part)[:40])
def test_a_wrong_value_is_refused_by_name(
    chart: Chart, given: dict[str, Any], sentence: str
) -> None:
    assert re.search(sentence, chart.refusal(given))


UNPULLABLE = [
    {"registry": "https://registry.example.com"},
    {"registry": "registry.example.com/LLM"},
    {"registry": "registry.example.com/a b"},
    {"registry": "registry.example.com//llm"},
    {"image.repository": "llm/operator:1.2"},
    {"image.repository": "LLM/operator"},
    {"images.cpu.runtime.repository": "/llm/runtime"},
    {r"images.1\.2\.1.builder.registry": "registry.example.com:port"},
]


@pytest.mark.parametrize("given", UNPULLABLE, ids=str)
def test_an_image_that_no_node_could_pull_is_refused(chart: Chart, given: dict[str, Any]) -> None:
    assert "no reference to an image that a node could pull" in chart.refusal(given)


@pytest.mark.parametrize(
    ("registry", "rendered"),
    [
        ("registry.example.com/llm/", "registry.example.com/llm/llmjp-serving/operator:"),
        ("registry.example.com:5000/llm", "registry.example.com:5000/llm/llmjp-serving/operator:"),
        ("localhost:5000", "localhost:5000/llmjp-serving/operator:"),
        ("", "llmjp-serving/operator:"),
    ],
)
def test_an_image_that_nodes_can_pull_is_taken(chart: Chart, registry: str, rendered: str) -> None:
    images = [
        container["image"]
        for obj in chart.render({"registry": registry})
        if obj["kind"] == "Deployment"
        for container in obj["spec"]["template"]["spec"]["containers"]
    ]
    assert len(images) == 1
    assert images[0].startswith(rendered)


def test_the_chart_may_be_a_part_of_another_one(chart: Chart, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    (outer / "charts").mkdir(parents=True)
    (outer / "Chart.yaml").write_text("{apiVersion: v2, name: outer, version: 0.1.0}", "utf-8")
    (outer / "charts/llmjp-operator").symlink_to(FOLDER)
    command = [str(chart.helm), "template", "it", str(outer), "--set=global.a=b"]
    command += ["--set=llmjp-operator.replicas=2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "\n  replicas: 2\n" in done.stdout, done.stderr


def examples() -> Iterator[str]:
    """Every values.yaml in the page about installing."""
    page = (ROOT / "docs/operator-install.md").read_text("utf-8")
    yield from re.findall(r"```yaml\n# values.yaml\n(.*?)```", page, re.DOTALL)


@pytest.mark.parametrize("text", list(examples()))
def test_an_example_is_taken(chart: Chart, tmp_path: Path, text: str) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(text, "utf-8")
    assert chart.render({}, f"--values={path}")


@pytest.mark.parametrize("path", [None, *CI], ids=lambda path: path.name if path else "default")
def test_lint(chart: Chart, path: Path | None) -> None:
    given = [f"--values={path}"] if path else []
    command = [str(chart.helm), "lint", "--strict", str(FOLDER), *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_suites(chart_tools: Path) -> None:
    command = [str(chart_tools / "helm-unittest"), str(FOLDER)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    suites = len(list((FOLDER / "tests").glob("*_test.yaml")))
    assert f"Test Suites: {suites} passed, {suites} total" in done.stdout


def test_the_prometheus_operators_kinds_are_as_it_defines_them(chart_tools: Path) -> None:
    check = str(chart_tools / "monitoring-types")
    text = (ROOT / "tests/charts/golden/everything.yaml").read_text("utf-8")
    done = subprocess.run([check], input=text, capture_output=True, text=True, check=True)
    kinds = [line.partition("/")[0] for line in done.stdout.splitlines()]
    assert kinds == ["PodMonitor", "PrometheusRule", "ServiceMonitor"]
    wrong = text.replace("scrapeTimeout:", "timeout:")
    done = subprocess.run([check], input=wrong, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'unknown field "timeout"' in done.stderr


def test_the_card_names_the_projects_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert CARD["version"] == CARD["appVersion"] == project["version"]
    assert ANNOTATIONS["license"] == project["license"]


def test_the_card_asks_for_what_the_definition_needs() -> None:
    # Kubernetes 1.29: CEL in definitions is stable, and has quantities.
    assert "quantity(" in json.dumps(build_definition())
    assert CARD["kubeVersion"] == ">=1.29.0-0"


def test_the_card_names_the_images_that_are_run(chart: Chart) -> None:
    objects = chart.render()
    [text] = [o["data"]["settings.json"] for o in objects if o["kind"] == "ConfigMap"]
    [deployment] = [o for o in objects if o["kind"] == "Deployment"]
    [operator] = deployment["spec"]["template"]["spec"]["containers"]
    run = {"operator": operator["image"]} | {
        f"{part}-{flavour}": image
        for flavour, pair in json.loads(text)["images"].items()
        for part, image in pair.items()
    }
    named = {entry["name"]: entry["image"] for entry in yaml.safe_load(ANNOTATIONS["images"])}
    assert named == run


def test_the_card_names_the_custom_resource() -> None:
    [named] = yaml.safe_load(ANNOTATIONS["crds"])
    assert (named["kind"], named["version"], named["name"]) == (KIND, VERSION, CRD)


def test_the_table_of_values() -> None:
    text = (
        "# A file.\n\n## One\n\n# Says.\n# More.\n# @schema {enum: [b, c]}\na: b\n"
        'd:\n  # Deep | er.\n  "e.f": [1]\n\n## Two\n\n'
        "# Whole.\n# @schema {type: object}\ng:\n  h:\n    i: 1\n"
    )
    tree = values(text)
    assert [value.name for value in leaves(tree)] == ["a", r"d.e\.f", "g"]
    assert table(tree).splitlines() == [
        "### One",
        "",
        "| value | default | meaning |",
        "|---|---|---|",
        '| `a` | `"b"` | Says. More. One of `b`, `c`. |',
        r"| `d.e\.f` | `[1]` | Deep \| er. |",
        "",
        "### Two",
        "",
        "| value | default | meaning |",
        "|---|---|---|",
        '| `g` | `{"h": {"i": 1}}` | Whole. |',
    ]


def test_a_part_of_a_page_is_put_anew() -> None:
    page = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n"
    assert replaced(page, {"x": "new\n"}) == page.replace("old", "new")
