"""`llmjp status`: the screen, and looking at a real API server."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from hack.local_cluster import Cluster, Kubectl
from llmjp_cli.cluster.status import overview
from llmjp_cli.cluster.status.advice import suggest_next_steps
from llmjp_cli.cluster.status.fields import explain_waiting, format_age, format_line
from llmjp_cli.cluster.status.overview import ModelOverview
from llmjp_cli.cluster.status.screen import render_listing, render_screen
from llmjp_cli.commands.doctor import diagnose_cluster
from llmjp_cli.commands.status import show_status
from llmjp_cli.console import format_duration
from llmjp_client import ModelNotFound, Unsupported, kube
from llmjp_operator.crd.definition import build_definition
from llmjp_operator.names import CRD
from tests.operator.model_bodies import make_model_body

Object = dict[str, Any]

NOW = 1_767_229_200.0  # 2026-01-01T01:00:00Z
BEGAN = "2026-01-01T00:00:00Z"


def claim(kind: str, value: str, reason: str, message: str = "") -> Object:
    return {
        "type": kind,
        "status": value,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-01-01T00:55:00Z",
    }


def a_model(phase: str = "", *claims: Object, name: str = "a", **status: Any) -> Object:
    found = make_model_body(name=name)
    found["metadata"] |= {"namespace": "ns", "generation": 1, "creationTimestamp": BEGAN}
    if phase:
        said = {"phase": phase, "observedGeneration": 1, "conditions": list(claims), **status}
        found["status"] = said
    return found


def a_pod(name: str = "a-1", **status: Any) -> Object:
    return {
        "metadata": {"name": name, "creationTimestamp": BEGAN},
        "spec": {"nodeName": "node0"},
        "status": status,
    }


UNSCHEDULED: Object = {
    "conditions": [
        {"type": "PodScheduled", "status": "False", "message": "0/3: Insufficient nvidia.com/gpu"}
    ]
}
BUILDING = a_model(
    "Building",
    claim("Accepted", "True", "Accepted"),
    claim("Progressing", "True", "Building", "the engine is built by Job j"),
    build={"job": "j", "step": "convert", "percent": 41, "etaSeconds": 380},
)
SERVING = a_model(
    "Serving",
    claim("Available", "True", "PodsReady", "1 of 1 pods answer"),
    readyReplicas=1,
    endpoint={"grpc": "a.ns.svc:8001", "http": "a.ns.svc:8000", "model": "llmjp"},
    engine={
        "key": "new1",
        "active": "act1",
        "previous": "prev1",
        "cacheHit": True,
        "computeCapability": "9.0",
        "trtllmVersion": "1.2.1",
    },
)
BLOCKED = a_model("Blocked", claim("Accepted", "False", "LicenceNotAccepted", "read [the] terms"))
FAILED = a_model(
    "Failed",
    claim("Progressing", "False", "BuildFailed", "failed in step compile"),
    build={
        "job": "j",
        "failure": {"code": "oom", "step": "compile", "message": "no memory", "retryable": False},
    },
)


def shown(renderable: object, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (
            ModelOverview(model=a_model()),
            ["ns/a  Pending", "0 of 1 pods ready", "60m old", "doctor"],
        ),
        (
            ModelOverview(model=BUILDING),
            ["build convert", "41%", "6:20 left", "Progressing True", "5m"],
        ),
        (
            ModelOverview(model=SERVING),
            ["a.ns.svc:8001", "act1", "prev1", "new1", "yes", "9.0", "1.2.1", "port-forward"],
        ),
        (
            ModelOverview(model=BLOCKED),
            ["Blocked", "LicenceNotAccepted", "read [the] terms", "edit ljm a"],
        ),
        (
            ModelOverview(model=FAILED),
            ["no memory (oom)", "logs job/j -n ns", "annotate --overwrite ljm a"],
        ),
        (
            ModelOverview(
                model=BUILDING, pods=(a_pod(**UNSCHEDULED),), unknown=("about events, because 403",)
            ),
            ["a-1", "node0", "Insufficient", "llmjp doctor", "cannot tell about events"],
        ),
    ],
)
def test_the_screen(seen: ModelOverview, words: list[str]) -> None:
    text = " ".join(shown(render_screen(seen, NOW)).split())
    assert [word for word in words if " ".join(word.split()) not in text] == []


def test_events_are_newest_first() -> None:
    events = tuple(
        {
            "metadata": {},
            "reason": reason,
            "message": reason,
            "lastTimestamp": f"2026-01-01T00:{t}:00Z",
        }
        for reason, t in (("Older", "10"), ("Newest", "50"), ("Old", "20"))
    )
    text = shown(render_screen(ModelOverview(model=SERVING, events=events), NOW))
    assert text.index("Newest") < text.index("Old ") < text.index("Older")


@pytest.mark.parametrize(
    ("pod", "why"),
    [
        (a_pod(), ""),
        (a_pod(**UNSCHEDULED), "0/3: Insufficient nvidia.com/gpu"),
        (a_pod(containerStatuses=[{"state": {"waiting": {"reason": "ContainerCreating"}}}]), ""),
        (
            a_pod(
                containerStatuses=[
                    {"state": {"waiting": {"reason": "ErrImagePull", "message": "x"}}}
                ]
            ),
            "ErrImagePull: x",
        ),
        (
            a_pod(
                containerStatuses=[{"state": {"terminated": {"exitCode": 4, "reason": "Error"}}}]
            ),
            "exit code 4: Error",
        ),
    ],
)
def test_why_a_pod_waits(pod: Object, why: str) -> None:
    assert explain_waiting(pod) == why


def test_lines_and_numbers() -> None:
    assert format_line(BUILDING) == "Building  convert 41% 6:20 left  the engine is built by Job j"
    assert format_line(BLOCKED) == "Blocked  read [the] terms"
    assert format_line(a_model()) == "Pending"
    assert [format_duration(s) for s in (5, 380, 3980)] == ["0:05", "6:20", "1:06:20"]
    assert [format_age(t, NOW) for t in (BEGAN, "2026-01-01T00:59:30Z", None)] == ["60m", "30s", ""]


def test_a_newer_spec_than_the_status() -> None:
    newer = a_model("Serving")
    newer["metadata"]["generation"] = 2
    assert "has not seen the latest spec" in next(suggest_next_steps(ModelOverview(model=newer)))


def test_the_table() -> None:
    text = shown(render_listing([BUILDING, SERVING], NOW, namespaces=True))
    assert "NAMESPACE" in text
    assert "convert 41% 6:20 left" in text
    assert "act1" in text


# On a real API server.

APP = typer.Typer()
APP.command()(show_status)


def llmjp(kubectl: Kubectl, *arguments: str) -> Result:
    where = (*arguments, "--kubeconfig", str(kubectl.kubeconfig))
    return CliRunner().invoke(APP, where)


@pytest.fixture
def models(control_plane: Cluster, namespace: Kubectl) -> Kubectl:
    control_plane.kubectl.apply(build_definition())
    control_plane.kubectl.wait(f"crd/{CRD}", "condition=Established")
    namespace.apply(make_model_body(name="a"), make_model_body(name="b"))
    return namespace


@pytest.mark.cluster
def test_on_a_cluster(models: Kubectl) -> None:
    here = ("-n", models.namespace)
    models.patch_status("ljm/a", SERVING["status"])
    result = llmjp(models, "a", *here)
    assert result.exit_code == 0, result.output
    assert f"{models.namespace}/a  Serving" in result.stdout
    assert "act1" in llmjp(models, *here).stdout
    assert models.namespace in llmjp(models, "-A").stdout
    document = json.loads(llmjp(models, "a", *here, "--json").stdout)
    assert (document["model"]["status"]["phase"], document["pods"]) == ("Serving", [])
    assert {m["metadata"]["name"] for m in json.loads(llmjp(models, *here, "--json").stdout)} == {
        "a",
        "b",
    }
    missing = llmjp(models, "c", *here)
    assert isinstance(missing.exception, ModelNotFound)
    assert missing.exception.exit_code == 3
    assert f"no LlmJpModel c in namespace {models.namespace}" in str(missing.exception)


@pytest.mark.cluster
def test_watching_until_it_serves(models: Kubectl, monkeypatch: pytest.MonkeyPatch) -> None:
    models.patch_status("ljm/a", BUILDING["status"])
    steps = iter([{}, {**SERVING["status"], "build": None}])
    wait = overview.wait_for_change

    async def change(api: kube.KubeApi, observed: Object, seconds: int) -> None:
        models.patch_status("ljm/a", next(steps))
        await wait(api, observed, seconds)

    monkeypatch.setattr(overview, "wait_for_change", change)
    result = llmjp(models, "a", "-n", models.namespace, "--watch")
    assert result.exit_code == 0, result.output
    said = [row.split("  ", 1)[1] for row in result.stdout.splitlines()]
    assert said == [
        "Building  convert 41% 6:20 left  the engine is built by Job j",
        "Serving  1 of 1 pods answer",
    ]


@pytest.mark.parametrize("arguments", [["--watch"], ["a", "-A"], ["a", "--watch", "--json"]])
def test_usage(arguments: list[str]) -> None:
    assert CliRunner().invoke(APP, arguments).exit_code == 2


def test_nobody_answers(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    document = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "x", "user": {}}],
    }
    path.write_text(json.dumps(document))
    result = CliRunner().invoke(APP, ["a", "--kubeconfig", str(path)])
    assert isinstance(result.exception, kube.KubeApiUnreachable)
    result = CliRunner().invoke(APP, ["a", "--kubeconfig", str(tmp_path / "none")])
    assert isinstance(result.exception, kube.KubeconfigError)


@pytest.mark.parametrize("command", [show_status, diagnose_cluster])
def test_without_the_extra(command: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "llmjp_client.kube", raising=False)
    monkeypatch.setitem(sys.modules, "kubernetes.aio", None)
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [])
    assert isinstance(result.exception, Unsupported)
    assert result.exception.exit_code == 6
    assert "pip install 'llmjp-serving[cluster]'" in str(result.exception)
