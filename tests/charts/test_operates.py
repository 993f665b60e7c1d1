"""The operator itself, as a process with what the chart gives its pod: it gets by."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hack.local_cluster import Kubectl, wait_until
from hack.local_cluster.kubectl import environment
from llmjp_operator.names import CRD, LEASE
from tests.charts.charts import Releases
from tests.operator.model_bodies import make_model_body

pytestmark = pytest.mark.cluster


@contextmanager
def operating(place: Kubectl, folder: Path) -> Iterator[Path]:
    """The operator with environment, settings and rights of the Deployment there; its log."""
    [container] = place.get("deployment", "llmjp-operator")["spec"]["template"]["spec"][
        "containers"
    ]
    given = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    settings, kubeconfig, log = (folder / name for name in ("settings.json", "config", "log"))
    stored = place.get("configmap", "llmjp-operator-settings")["data"]["settings.json"]
    settings.write_text(stored, "utf-8")
    view = json.loads(place("config", "view", "--raw", "--flatten", "--output=json"))
    for user in view["users"]:
        user["user"] = {"token": place("create", "token", "llmjp-operator")}
    kubeconfig.write_text(json.dumps(view), "utf-8")
    given |= {
        "LLMJP_NAMESPACE": place.namespace,
        "LLMJP_POD_NAME": "operator-0",
        "LLMJP_SETTINGS": str(settings),
        "LLMJP_PORT": "0",
        "KUBECONFIG": str(kubeconfig),
    }
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "llmjp_operator"],
            env=environment(os.environ) | given,
            stderr=stderr,
        )
        try:
            yield log
            assert process.poll() is None, log.read_text("utf-8")
        finally:
            process.terminate()
            process.wait(timeout=30)


def refusals(log: Path) -> list[str]:
    """Lines about what the API server refused."""
    lines = log.read_text("utf-8").splitlines()
    words = ("forbidden", "403", "not enough permissions", "traceback")
    return [line for line in lines if any(word in line.lower() for word in words)]


def reach_resolving(place: Kubectl) -> None:
    """A new model gets as far as it can where no pod runs: its source is being resolved."""
    place.apply(make_model_body(name="served"))

    def look() -> tuple[bool, Any]:
        status = place.get("ljm", "served").get("status", {})
        return status.get("phase") == "Resolving", status

    wait_until("the model is being resolved", look, timeout_s=120)
    label = "--selector=serving.llmjp.dev/model=served"
    assert place.get("jobs,serviceaccounts,networkpolicies", label)["items"]


def test_with_the_rights_in_a_whole_cluster(
    releases: Releases, place: Kubectl, tmp_path: Path
) -> None:
    releases.install()
    place.wait(f"crd/{CRD}", "condition=Established")
    with operating(place, tmp_path) as log:
        reach_resolving(place)
        assert place.get("lease", LEASE)["spec"]["holderIdentity"] == "operator-0"
        assert refusals(log) == []


def test_with_the_rights_in_its_namespaces_only(
    releases: Releases, place: Kubectl, tmp_path: Path
) -> None:
    watched = f"--set=watchNamespaces={{{place.namespace}}}"
    releases.install("llmjp-operator", "--set=rbac.scope=namespaced", watched)
    place.wait(f"crd/{CRD}", "condition=Established")
    with operating(place, tmp_path) as log:
        reach_resolving(place)
        # kopf may want to follow definitions and namespaces, and say that it cannot.
        refused = [json.loads(line)["logger"].partition(".")[0] for line in refusals(log)]
        assert set(refused) <= {"kopf"}
