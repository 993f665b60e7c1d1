"""The images run as the operator runs them, and hold what they should and no more."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from hack.local_cluster import Kubectl
from hack.local_cluster.kubectl import wait_until
from hack.local_images import is_reproducible
from llmjp_client import Client
from tests.hack.local_images.pods import USER, pod
from tests.support.shared import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

PROBE = Path(__file__).with_name("probe.py").read_text("utf-8")
RUN_S = 60.0
"""For a pod to come to its end, on two busy cores."""
QUESTION = [{"role": "user", "content": "日本の首都はどこですか。"}]
ANSWER = "日本の首都は東京です。"


def output(kubectl: Kubectl, one: dict[str, Any]) -> str:
    """What a pod printed that came to a good end."""
    kubectl.apply(one)
    name = one["metadata"]["name"]

    def ended() -> tuple[bool, object]:
        phase = kubectl.get("pod", name)["status"]["phase"]
        return phase in {"Succeeded", "Failed"}, phase

    wait_until(f"{name} ends", ended, timeout_s=RUN_S)
    log = kubectl("logs", name)
    assert kubectl.get("pod", name)["status"]["phase"] == "Succeeded", log
    return log


@pytest.mark.parametrize("name", ["llmjp-builder", "llmjp-runtime"])
def test_the_entry_point_is_llmjp(images: dict[str, str], restricted: Kubectl, name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    printed = output(restricted, pod("version", images[name], "--version"))
    assert printed == f"llmjp-serving {project['version']}\n"


@pytest.mark.parametrize(
    ("name", "modules", "absent"),
    [
        (
            "llmjp-operator",
            ("llmjp_operator.api", "kopf", "kubernetes.aio.client", "prometheus_client"),
            {"torch", "numpy", "tritonclient", "nvidia-pytriton"},
        ),
        ("llmjp-builder", ("llmjp_builder.pipeline", "torch", "huggingface_hub"), {"kopf"}),
        (
            "llmjp-runtime",
            ("llmjp_runtime.front.backends", "torch", "tritonclient.grpc.aio"),
            {"kopf"},
        ),
    ],
)
def test_an_image_holds_its_part_and_no_other(
    images: dict[str, str],
    restricted: Kubectl,
    name: str,
    modules: tuple[str, ...],
    absent: set[str],
) -> None:
    probe = pod("probe", images[name], command=("python", "-c", PROBE, *modules))
    found = json.loads(output(restricted, probe))
    assert found["user"] == [USER, USER]
    assert found["home"] == "/tmp"
    assert found["writable"] == []
    # numpy's wheel brings one.
    assert [folder for folder in found["compiled"] if "/numpy/" not in folder] == []
    assert not absent & set(found["packages"])
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if "==" in line
    )
    ours = found["packages"].keys() - {"pip", "setuptools"}  # of `python3 -m venv` itself
    for package, version in ((name, found["packages"][name]) for name in ours):
        if package in pinned:
            assert version.partition("+")[0] == pinned[package]


def test_the_builder_builds_and_the_runtime_serves(
    images: dict[str, str], restricted: Kubectl, volume: Path
) -> None:
    whole = [{"name": "volume", "mountPath": "/store"}]
    build = ("build", "/store/checkpoint", "--store", "/store", "--no-verify")
    output(restricted, pod("build", images["llmjp-builder"], *build, volumeMounts=whole))
    [artefact] = (volume / "artefacts").iterdir()

    mount = {"name": "volume", "mountPath": "/artefact", "readOnly": True}
    restricted.apply(
        pod(
            "serve",
            images["llmjp-runtime"],
            *("serve", "/artefact", "--host", "0.0.0.0"),
            volumeMounts=[{**mount, "subPath": f"artefacts/{artefact.name}"}],
            readinessProbe={"httpGet": {"path": "/readyz", "port": 8003}, "periodSeconds": 1},
        )
    )
    restricted.wait("pod/serve", "condition=Ready", timeout_s=RUN_S)
    address = restricted.get("pod", "serve")["status"]["podIP"]
    with Client(f"{address}:8001") as client:
        assert client.chat(QUESTION, top_k=1).text == ANSWER


def test_equal_inputs_give_equal_layers(images: dict[str, str]) -> None:
    assert "llmjp-operator" in images
    assert is_reproducible("llmjp-operator")


def test_pretend_gpus_are_what_the_builder_finds(
    images: dict[str, str], restricted: Kubectl
) -> None:
    one = pod(
        "gpus",
        images["llmjp-gpu-stand-in"],
        command=("python", "-c", "from llmjp_builder.compile.gpu import *; print(detect_gpus())"),
        env=[
            {"name": "LLMJP_PRETEND_GPUS", "value": "4"},
            {"name": "LLMJP_PRETEND_GPU", "value": "NVIDIA B200"},
            {"name": "LLMJP_PRETEND_CAPABILITY", "value": "10.0"},
        ],
    )
    printed = output(restricted, one)
    assert "product='NVIDIA-B200', compute_capability='10.0'" in printed
    assert "count=4" in printed
