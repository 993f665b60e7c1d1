"""`from_resource` on a real API server, and through a real kubelet."""

from __future__ import annotations

import socket
import subprocess
import threading
from pathlib import Path

import pytest

from hack.local_cluster import Cluster, ImageConfig, Kubectl, image_archive, wait_until
from llmjp_client import Client, ModelNotServed
from llmjp_operator.crd.definition import build_definition
from llmjp_operator.names import CRD
from tests.client.resources import SERVES, Object, condition, said
from tests.operator.model_bodies import make_model_body

pytestmark = pytest.mark.cluster


def applied(cluster: Cluster, namespace: Kubectl) -> None:
    cluster.kubectl.apply(build_definition())
    cluster.kubectl.wait(f"crd/{CRD}", "condition=Established")
    namespace.apply(make_model_body(name="a"))


def test_blocked(control_plane: Cluster, namespace: Kubectl) -> None:
    applied(control_plane, namespace)
    accepted = condition("Accepted", "False", "LicenceNotAccepted", "accept the terms")
    namespace.patch_status("ljm/a", said("Blocked", accepted))
    with pytest.raises(ModelNotServed, match=r"LicenceNotAccepted\): accept the terms") as caught:
        Client.from_resource("a", namespace.namespace, kubeconfig=namespace.kubeconfig)
    assert (caught.value.phase, caught.value.conditions[0]["reason"]) == (
        "Blocked",
        "LicenceNotAccepted",
    )


def test_time_is_up(control_plane: Cluster, namespace: Kubectl) -> None:
    applied(control_plane, namespace)
    with pytest.raises(ModelNotServed, match=r"not served after 0.5 s: phase Pending"):
        Client.from_resource("a", namespace.namespace, wait=0.5, kubeconfig=namespace.kubeconfig)


@pytest.mark.usefixtures("no_leaks")
def test_waiting_until_it_serves(control_plane: Cluster, namespace: Kubectl) -> None:
    applied(control_plane, namespace)
    namespace.patch_status("ljm/a", said("Building", condition("Available", "False")))
    endpoints: list[str] = []

    def connect() -> None:
        with Client.from_resource(
            "a", namespace.namespace, kubeconfig=namespace.kubeconfig
        ) as client:
            endpoints.append(client.endpoint)

    thread = threading.Thread(target=connect)
    thread.start()
    namespace.patch_status("ljm/a", SERVES)
    thread.join(60)
    assert endpoints
    assert endpoints[0].startswith("127.0.0.1:")


# Through a real kubelet.


@pytest.fixture(scope="module")
def image(node_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A server that answers `served` is on the node."""
    folder, name = tmp_path_factory.mktemp("image"), "localhost/llmjp-test-forward:1"
    (folder / "rootfs").mkdir()
    source = Path(__file__).parents[1] / "hack" / "local_cluster" / "pod.c"
    subprocess.run(["cc", "-static", "-o", str(folder / "rootfs" / "pod"), str(source)], check=True)
    config = ImageConfig(entrypoint=("/pod",), user="65535:65535")
    image_archive(folder / "rootfs", name, config, folder / "pod.tar")
    node_cluster.import_image(folder / "pod.tar")
    return name


def server(name: str, image: str) -> Object:
    container = {
        "name": "triton",
        "image": image,
        "imagePullPolicy": "Never",
        "args": ["serve", "8080"],
        "ports": [{"name": "grpc", "containerPort": 8080}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "a"}},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
        },
    }


@pytest.mark.usefixtures("no_leaks")
def test_a_port_of_a_real_pod(node_cluster: Cluster, node_namespace: Kubectl, image: str) -> None:
    kubectl = node_namespace
    applied(node_cluster, kubectl)
    kubectl.apply(server("one", image))
    kubectl.wait("pod/one", "condition=Ready")
    kubectl.patch_status("ljm/a", SERVES)
    with Client.from_resource("a", kubectl.namespace, kubeconfig=kubectl.kubeconfig) as client:
        host, _, port = client.endpoint.rpartition(":")

        def answer() -> bytes:
            with socket.create_connection((host, int(port)), timeout=30) as connection:
                said = b""
                while data := connection.recv(64):
                    said += data
                return said

        assert [answer() for _ in range(5)] == [b"served\n"] * 5
        kubectl.apply(server("two", image))
        kubectl.wait("pod/two", "condition=Ready")
        kubectl("delete", "pod", "one", "--wait=false")
        wait_until("the other pod", lambda: ((said := answer()) == b"served\n", said))
