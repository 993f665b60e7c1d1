"""The operator, installed from its chart on a real node with the project's images.

Volumes are folders of this machine, as the node has no provisioner; images are on the node already.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hack.local_cluster.kubectl import environment, wait_until
from hack.local_images import name_image
from hack.local_images.recipes import ROOT

if TYPE_CHECKING:
    from hack.local_cluster import Cluster, Kubectl

Object = dict[str, Any]

SYSTEM: Final = "llmjp-system"
RELEASE: Final = "llmjp-operator"
CHART: Final = ROOT / "charts" / "llmjp-operator"
USER: Final = 10001
"""User id of our pods; fsGroup does not change the owner of a hostPath."""
READY_S: Final = 240.0
"""Seconds from a spec to pods that answer, on two busy cores."""


def render_image_values(name: str) -> Object:
    """Return an image that is on the node, as the chart's values name it."""
    path, _, tag = name_image(name).partition(":")
    registry, _, repository = path.partition("/")
    return {"registry": registry, "repository": repository, "tag": tag}


def render_chart_values(**changes: Any) -> Object:
    """Return values for the chart: our images, never pulled."""
    gpu = render_image_values("llmjp-gpu-stand-in")
    return {
        "imagePullPolicy": "Never",
        "image": render_image_values("llmjp-operator"),
        "tokenHosts": ["http://127.0.0.1:9"],
        "images": {
            "cpu": {
                "builder": render_image_values("llmjp-builder"),
                "runtime": render_image_values("llmjp-runtime"),
            },
            "1.2.1": {"builder": gpu, "runtime": gpu},
        },
        "resyncSeconds": 20,
        **changes,
    }


@dataclass
class Installation:
    """A cluster with the operator in it."""

    cluster: Cluster
    helm: Path
    volumes_folder: Path = field(
        default_factory=lambda: Path(tempfile.mkdtemp(prefix="llmjp-e2e-"))
    )
    """Folder with one folder for each volume."""

    @property
    def kubectl(self) -> Kubectl:
        """Client with the rights of an administrator."""
        return self.cluster.kubectl

    def run_helm(self, *arguments: str, given: Object | None = None) -> str:
        """Run helm with `given` as values; return what it prints."""
        command = [str(self.helm), f"--kubeconfig={self.kubectl.kubeconfig}", *arguments]
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            if given is not None:
                json.dump(given, file)
                file.flush()
                command += ["--values", file.name]
            done = subprocess.run(
                command, env=environment(os.environ), capture_output=True, text=True, check=False
            )
        if done.returncode:
            raise AssertionError(f"helm {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def install(self, **changes: Any) -> None:
        """Run `helm install`, and wait for the operator."""
        self.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})
        self.run_helm(
            *("upgrade", "--install", RELEASE, str(CHART), "--namespace", SYSTEM),
            *("--wait", "--timeout", "60s"),
            given=render_chart_values(**changes),
        )

    def uninstall(self) -> None:
        """Run `helm uninstall`, and wait until no pod of the operator is left."""
        self.run_helm("uninstall", RELEASE, "--namespace", SYSTEM, "--wait", "--timeout", "60s")
        wait_until(
            "the operator is gone",
            lambda: (not self.list_operator_pods(), self.list_operator_pods()),
        )

    def list_operator_pods(self) -> dict[str, Object]:
        """Return the operator's pods by name."""
        label = f"--selector=app.kubernetes.io/name={RELEASE}"
        found = self.kubectl.within(SYSTEM).get("pods", label)["items"]
        return {pod["metadata"]["name"]: pod for pod in found}

    def kill_operator(self) -> None:
        """Send SIGKILL to its processes, as the kernel does when memory runs out."""
        [pod] = self.list_operator_pods().values()
        uid = pod["metadata"]["uid"]
        victims = [process for process in _processes_of(uid) if process != os.getpid()]
        assert victims, f"no process of pod {uid}"
        for victim in victims:
            os.kill(victim, signal.SIGKILL)

    def install_from_registry(self, registry: str) -> None:
        """Install with images that the cluster pulls: the chart's own names, in that registry."""
        self.run_helm(
            *("upgrade", "--install", RELEASE, str(CHART), "--namespace", SYSTEM),
            *("--create-namespace", "--wait", "--timeout", "180s"),
            given={"registry": registry},
        )

    def create_volume(
        self, kubectl: Kubectl, claim: str, size: str = "1Gi", *, make: bool = False
    ) -> Path:
        """Return the folder behind a new volume for a claim; `make` also makes the claim."""
        folder = self.volumes_folder / f"{kubectl.namespace}-{claim}"
        folder.mkdir(parents=True)
        shutil.chown(folder, USER, USER)
        name = f"{kubectl.namespace}-{claim}"
        spec: Object = {
            "capacity": {"storage": size},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": kubectl.namespace, "name": claim},
            "hostPath": {"path": str(folder)},
        }
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": spec,
        }
        kubectl.apply(volume)
        if make:
            kubectl.apply(
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": claim},
                    "spec": {
                        "accessModes": ["ReadWriteOnce"],
                        "resources": {"requests": {"storage": size}},
                        "storageClassName": "",
                    },
                }
            )
        return folder

    def close(self) -> None:
        """Remove the volumes' folders."""
        shutil.rmtree(self.volumes_folder, ignore_errors=True)


def _processes_of(uid: str) -> list[int]:
    """Return the operator's processes in a pod, without the one that holds its network."""
    found = []
    for group in Path("/proc").glob("[0-9]*/cgroup"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            theirs = group.read_text("utf-8").replace("_", "-")
            if uid in theirs and b"llmjp_operator" in group.with_name("cmdline").read_bytes():
                found.append(int(group.parent.name))
    return found


def give_to_pods(folder: Path) -> None:
    """Give a folder's contents to our pods."""
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, USER, USER)
