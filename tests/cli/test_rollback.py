"""`llmjp rollback`: the table, and holding a model on a real API server."""

from __future__ import annotations

import json
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from hack.local_cluster import Cluster, Kubectl
from llmjp_cli.cluster.revisions import ROLLBACK_TO, read_revisions, render_revisions
from llmjp_cli.commands.rollback import roll_back
from llmjp_client import InvalidRequest, ModelNotFound
from llmjp_operator import names
from llmjp_operator.api import parse_model
from llmjp_operator.crd.definition import build_definition
from tests.cli.test_status import shown
from tests.operator.factories import SETTINGS, TORCH
from tests.operator.model_bodies import Object, make_model_body
from tests.operator.render.samples import render_all_objects

NOW = 1_767_229_200.0  # 2026-01-01T01:00:00Z


def revision(number: int, pods: str, **annotations: str) -> Object:
    return {
        "metadata": {
            "annotations": {f"serving.llmjp.dev/{k}": v for k, v in annotations.items()},
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"uid": "u"}],
        },
        "revision": number,
        "data": {
            "key": f"key{number}",
            "pods": pods,
            "madeBy": "0.1.0",
            "template": {"spec": {"containers": [{"image": f"runtime:{number}"}]}},
        },
    }


def test_the_table() -> None:
    live: Object = {"metadata": {"annotations": {"serving.llmjp.dev/pods": "p2"}}}
    items = [
        revision(1, "p1", served="true"),
        revision(3, "p3", failed=""),
        revision(2, "p2", served="true"),
        revision(4, "p4"),
        {"metadata": {"ownerReferences": [{"uid": "another"}]}, "revision": 9},
    ]
    found = read_revisions(items, "u", live)
    assert [(r.number, r.state) for r in found] == [
        (4, ""),
        (3, "failed"),
        (2, "running"),
        (1, "served"),
    ]
    text = shown(render_revisions(found, NOW), width=80)
    assert "runtime:3" in text
    assert "key2" in text
    assert "60m" in text


def test_the_annotation_is_the_operators() -> None:
    assert ROLLBACK_TO == names.ROLLBACK_TO


# On a real API server.

APP = typer.Typer()
APP.command()(roll_back)


def llmjp(kubectl: Kubectl, *arguments: str) -> Result:
    where = (*arguments, "-n", kubectl.namespace, "--kubeconfig", str(kubectl.kubeconfig))
    return CliRunner().invoke(APP, where)


def annotation(place: Kubectl) -> Any:
    return (place.get("ljm", "a")["metadata"].get("annotations") or {}).get(ROLLBACK_TO)


@pytest.mark.cluster
def test_on_a_cluster(control_plane: Cluster, namespace: Kubectl) -> None:
    control_plane.kubectl.apply(build_definition())
    control_plane.kubectl.wait(f"crd/{names.CRD}", "condition=Established")
    [body] = namespace.apply(make_model_body(TORCH, "a"))
    assert "nothing has been rolled out" in llmjp(namespace, "a").stderr
    made = render_all_objects(parse_model(body), SETTINGS)
    kinds = {"ControllerRevision", "Deployment"}
    namespace.apply(*(obj for obj in made if obj["kind"] in kinds))
    [listed] = json.loads(llmjp(namespace, "a", "--json").stdout)
    assert (listed["number"], listed["state"]) == (1, "running")
    assert "runtime:cpu" in llmjp(namespace, "a").stdout
    missing = llmjp(namespace, "a", "--to", "7")
    assert isinstance(missing.exception, InvalidRequest)
    assert "it has: 1" in str(missing.exception)
    assert annotation(namespace) is None
    assert "--clear" in llmjp(namespace, "a", "--to", "1").stderr
    assert annotation(namespace) == "1"
    assert llmjp(namespace, "a", "--clear").exit_code == 0
    assert annotation(namespace) is None
    assert isinstance(llmjp(namespace, "b").exception, ModelNotFound)


def test_usage() -> None:
    assert CliRunner().invoke(APP, ["a", "--to", "1", "--clear"]).exit_code == 2
    assert CliRunner().invoke(APP, ["a", "--to", "0"]).exit_code == 2
