"""The node runs pods, counts pretend GPUs, routes Services, and leaves nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hack.local_cluster import ImageConfig, image_archive, wait_until
from hack.local_cluster.network import Network
from tests.hack.local_cluster.starter import assert_dead, start_in_another_process

if TYPE_CHECKING:
    from hack.local_cluster import Cluster, Kubectl, Object

pytestmark = pytest.mark.cluster
IMAGE = "localhost/llmjp-test-pod:1"


@pytest.fixture(scope="module")
def pods(node_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The image of `pod.c` is on the node."""
    folder = tmp_path_factory.mktemp("image")
    rootfs = folder / "rootfs"
    rootfs.mkdir()
    source = Path(__file__).with_name("pod.c")
    subprocess.run(["cc", "-static", "-o", str(rootfs / "pod"), str(source)], check=True)
    config = ImageConfig(entrypoint=("/pod",), user="65535:65535")
    image_archive(rootfs, IMAGE, config, folder / "pod.tar")
    node_cluster.import_image(folder / "pod.tar")


def pod(name: str, *arguments: str, gpus: int = 0) -> Object:
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}} if gpus else {}
    container: dict[str, Any] = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "args": list(arguments),
        "resources": resources,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
        },
    }


@pytest.mark.usefixtures("pods")
@pytest.mark.parametrize(("status", "phase"), [(0, "Succeeded"), (3, "Failed")])
def test_a_pod_runs_and_its_log_is_read(node_namespace: Kubectl, status: int, phase: str) -> None:
    node_namespace.apply(pod("once", "say", "こんにちは", str(status)))
    node_namespace.wait("pod/once", f"jsonpath={{.status.phase}}={phase}")
    assert node_namespace("logs", "once") == "こんにちは\n"
    ended = node_namespace.get("pod", "once")["status"]["containerStatuses"][0]["state"]
    assert ended["terminated"]["exitCode"] == status


@pytest.mark.usefixtures("pods")
def test_pretend_gpus_are_counted(node_cluster: Cluster, node_namespace: Kubectl) -> None:
    node_cluster.pretend_gpus(8, product="NVIDIA-H100-80GB-HBM3", compute_capability="9.0")
    labels = node_cluster.kubectl.get("node/node0")["metadata"]["labels"]
    assert labels["nvidia.com/gpu.product"] == "NVIDIA-H100-80GB-HBM3"
    assert labels["nvidia.com/gpu.compute.major"] == "9"

    node_namespace.apply(
        pod("fits", "serve", "8080", gpus=8), pod("waits", "say", "x", "0", gpus=1)
    )
    node_namespace.wait("pod/fits", "condition=Ready")
    node_namespace.wait("pod/waits", "condition=PodScheduled=false")
    condition = node_namespace.get("pod", "waits")["status"]["conditions"][0]
    assert "Insufficient nvidia.com/gpu" in condition["message"]

    node_namespace("delete", "pod", "fits")
    node_namespace.wait("pod/waits", "jsonpath={.status.phase}=Succeeded")


@pytest.mark.usefixtures("pods")
def test_a_service_is_reached_from_a_pod_and_from_the_host(node_namespace: Kubectl) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "served"},
        "spec": {"selector": {"app": "server"}, "ports": [{"port": 7000, "targetPort": 8080}]},
    }
    stored = node_namespace.apply(pod("server", "serve", "8080"), service)
    address = stored[1]["spec"]["clusterIP"]
    node_namespace.wait("pod/server", "condition=Ready")

    def answered() -> tuple[bool, object]:  # once kube-proxy has written its rules
        try:
            with socket.create_connection((address, 7000), timeout=5) as connection:
                answer = connection.recv(64)
        except OSError as exc:
            return False, exc
        return answer == b"served\n", answer

    wait_until("the Service answers the host", answered, timeout_s=30)
    node_namespace.apply(pod("client", "fetch", address, "7000"))
    node_namespace.wait("pod/client", "jsonpath={.status.phase}=Succeeded")
    assert node_namespace("logs", "client") == "served\n"


def test_a_killed_starter_leaves_nothing(node_cluster: Cluster) -> None:
    """The second node besides `node_cluster`, which stays as it is."""
    starter = start_in_another_process("node")
    assert starter.slot != node_cluster.slot
    network = Network(starter.slot)
    assert Path("/sys/class/net", network.device).exists()
    processes = starter.processes()
    assert {"kubelet", "containerd", "kube-proxy"} <= set(processes.values())

    os.kill(starter.pid, signal.SIGKILL)
    starter.wait_until_slot_is_free()

    assert_dead(processes)
    assert not starter.folder.exists()
    assert not Path("/sys/class/net", network.device).exists()
    assert not list(Path("/sys/fs/cgroup").glob(f"**/{network.cgroup}"))
    assert str(starter.folder) not in Path("/proc/self/mounts").read_text("utf-8")
    assert node_cluster.kubectl("get", "--raw=/readyz") == "ok"
