"""`make demo-cluster`: from `helm install` to streamed Japanese, on a Kubernetes that it starts.

With $KUBECONFIG set it takes that cluster instead, which must be able to pull the project's images:
LLMJP_REGISTRY names where they are (docs/container-images.md). A default storage class is needed.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import yaml

from e2e.harness.installation import RELEASE, SYSTEM, Installation
from e2e.harness.namespace import CHECKPOINT, MANIFEST, QUESTION, SOURCE, ModelNamespace
from hack.local_cluster import Options, existing, install, start
from hack.local_cluster.errors import ClusterError
from hack.local_images import ImagesMissing, load
from llmjp_client import Client
from scripts.chart_files import NoHelm, find_tools

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hack.local_cluster import Cluster

NAME: Final = "llmjp-tiny-cpu"
REGISTRY: Final = "LLMJP_REGISTRY"


class Refused(Exception):
    """The demo cannot run here; says what is missing."""


def main() -> int:
    """The exit code."""
    try:
        _show()
    except (Refused, ClusterError, ImagesMissing, NoHelm) as exc:
        print(f"demo-cluster: {exc}", file=sys.stderr)
        return 1
    return 0


def _show() -> None:
    theirs = existing(os.environ)
    helm = find_tools() / "helm"
    with _ours() if theirs is None else _theirs(theirs) as cluster:
        installation = Installation(cluster, helm)
        try:
            _play(installation, ours=theirs is None)
        finally:
            installation.close()


@contextmanager
def _ours() -> Iterator[Cluster]:
    _say("starting a one-node Kubernetes")
    install("node", os.environ)
    with start("node", Options()) as cluster:
        _say("putting the images on it (the first time they are built, a few minutes)")
        load(cluster, ("llmjp-operator", "llmjp-builder", "llmjp-runtime"))
        yield cluster


@contextmanager
def _theirs(cluster: Cluster) -> Iterator[Cluster]:
    if not os.environ.get(REGISTRY):
        raise Refused(f"with KUBECONFIG, {REGISTRY} must name the registry of the images")
    yield cluster


def _play(installation: Installation, *, ours: bool) -> None:
    _say(f"helm install {RELEASE} charts/llmjp-operator --namespace {SYSTEM}")
    if ours:
        installation.install()
    else:
        installation.install_from_registry(os.environ[REGISTRY])
    namespace = f"llmjp-demo-{secrets.token_hex(2)}"
    installation.kubectl("create", "namespace", namespace)
    models = ModelNamespace(installation, installation.kubectl.within(namespace))
    try:
        if ours:
            models.put_checkpoint()
        else:
            _send_checkpoint(models)
        _say(f"kubectl apply -f manifests/{MANIFEST.name}")
        model: dict[str, Any] = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
        if ours:
            models.apply(model)
        else:
            models.kubectl.apply(model)
        _watch(models)
        _talk(models)
    finally:
        installation.kubectl("delete", "namespace", namespace, "--wait=false")


def _watch(models: ModelNamespace) -> None:
    """One line for every phase, until it serves."""
    began, shown = time.monotonic(), ""

    def seen(status: dict[str, Any]) -> bool:
        nonlocal shown
        phase = status.get("phase", "")
        if phase != shown:
            conditions = {c["type"]: c for c in status.get("conditions", ())}
            telling = (c for c in conditions.values() if c["status"] == "True" and "message" in c)
            message = next((c["message"] for c in telling), "")
            print(f"  {time.monotonic() - began:5.1f} s  {phase:<12} {message}", flush=True)
            shown = phase
        return bool(phase == "Serving")

    models.wait_for("Serving", seen)
    print(models.kubectl("get", "ljm"), end="")


def _talk(models: ModelNamespace) -> None:
    _say(f'Client.from_resource("{NAME}")')
    config = str(models.kubectl.kubeconfig)
    with Client.from_resource(NAME, namespace=models.name, kubeconfig=config) as client:
        print(f"  > {QUESTION}\n  ", end="")
        with client.stream([{"role": "user", "content": QUESTION}], top_k=1) as stream:
            for chunk in stream:
                print(chunk.text, end="", flush=True)
        print()


def _send_checkpoint(models: ModelNamespace) -> None:
    """Onto a volume of the cluster's own, through a pod that does nothing else."""
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": SOURCE},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    pod = models.render_sender_pod(SOURCE)
    models.kubectl.apply(claim, pod)
    models.kubectl.wait("pod/sender", "condition=Ready", timeout_s=100)
    models.kubectl("cp", str(CHECKPOINT), "sender:/volume/checkpoint")
    models.kubectl("delete", "pod", "sender", "--grace-period=1")


def _say(what: str) -> None:
    print(f"\033[1m{what}\033[0m" if sys.stdout.isatty() else what, flush=True)


if __name__ == "__main__":
    sys.exit(main())
