"""`from_resource`: what an LlmJpModel says, waiting for it, and the way to its pods."""

from __future__ import annotations

import asyncio
import builtins
import gc
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import Cluster, ImageConfig, Kubectl, image_archive, wait_until
from llmjp_client import TLS, AsyncClient, Client, ModelNotFound, Unavailable, Unsupported
from llmjp_client._resource import ModelNotServed, Settings, parse, settings_for
from llmjp_client.testing import FakeServer
from llmjp_operator.crd.definition import definition
from llmjp_operator.names import CRD
from tests.client.fake_cluster import FakeCluster, pod
from tests.operator.objects import model

Object = dict[str, Any]
HOST = "a.mine.svc"


def condition(kind: str, status: str, reason: str = "Reason", message: str = "why") -> Object:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


def said(phase: str, *conditions: Object, generation: int = 1, **more: Any) -> Object:
    return {
        "phase": phase,
        "observedGeneration": generation,
        "conditions": list(conditions),
        **more,
    }


ENDPOINT = {"grpc": f"{HOST}:8001", "http": f"{HOST}:8000", "model": "llmjp"}
SERVES = said("Serving", condition("Available", "True"), endpoint=ENDPOINT, selector="app=a")


def resource(status: Object | None, tls: str = "") -> Object:
    found = model({"serving": {"tls": {"secretName": tls}}} if tls else None)
    found["metadata"] |= {"generation": 1, "resourceVersion": "1"}
    return found if status is None else {**found, "status": status}


@pytest.mark.parametrize(
    ("status", "serves", "hopeless"),
    [
        (None, False, False),
        ({}, False, False),
        (said("Building", condition("Available", "False")), False, False),
        (SERVES, True, False),
        (said("Serving", condition("Available", "True")), False, False),
        (said("Degraded", condition("Available", "True"), endpoint=ENDPOINT), True, False),
        (said("Blocked", condition("Accepted", "False")), False, True),
        (said("Failed", condition("Available", "False")), False, True),
        (said("Failed", condition("Available", "False"), generation=0), False, False),
    ],
)
def test_what_a_status_comes_to(status: Object | None, serves: bool, hopeless: bool) -> None:
    found = parse(resource(status), "a")
    assert (found.serves, found.hopeless) == (serves, hopeless)


def test_what_is_read_of_one_that_serves() -> None:
    found = parse(resource(SERVES, tls="certificate"), "a")
    assert (found.host, found.port, found.model) == (HOST, 8001, "llmjp")
    assert (found.selector, found.tls) == ("app=a", True)
    least = parse({}, "a")
    assert least.selector == "serving.llmjp.dev/model=a,app.kubernetes.io/component=serving"


def test_the_story_says_what_does_not_hold() -> None:
    accepted = condition("Accepted", "False", "LicenceNotAccepted", "read the terms")
    found = parse(resource(said("Blocked", accepted, condition("EngineReady", "True"))), "a")
    assert found.story() == (
        "phase Blocked; Accepted is False (LicenceNotAccepted): read the terms"
    )
    assert parse({}, "a").story() == "phase Pending; the operator has said nothing yet"


@pytest.mark.parametrize(
    ("secret", "given", "elsewhere", "tls"),
    [
        ("", {}, True, False),
        ("s", {}, False, True),
        ("s", {}, True, TLS(server_name=HOST)),
        ("s", {"tls": TLS(ca="ca.pem")}, True, TLS(ca="ca.pem", server_name=HOST)),
        ("s", {"tls": TLS(server_name="x")}, True, TLS(server_name="x")),
        ("s", {"tls": False}, True, False),
        ("", {"tls": TLS(ca="ca.pem")}, False, TLS(ca="ca.pem")),
    ],
)
def test_tls(secret: str, given: Settings, elsewhere: bool, tls: object) -> None:
    settings = settings_for(
        parse(resource(SERVES, tls=secret), "a"), given, other_address=elsewhere
    )
    assert (settings["tls"], settings["model"]) == (tls, "llmjp")


def test_the_package_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "_forward":
            raise ModuleNotFoundError(name="kubernetes")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Unsupported, match=r"pip install 'llmjp-serving\[cluster\]'"):
        Client.from_resource("a")


@pytest.fixture
def no_leaks() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert {t for t in threading.enumerate() if t.name.startswith("llmjp-client")} <= before


@pytest.fixture
def answers() -> Iterator[FakeServer]:
    with FakeServer(["東京", "です"]) as server:
        yield server


@pytest.mark.usefixtures("no_leaks")
def test_a_client_outside_streams_through_a_ready_pod(answers: FakeServer, tmp_path: Path) -> None:
    pods = [pod("gone"), pod("waits", ready=False), pod("works")]
    with FakeCluster(resource(SERVES), {"works": answers.endpoint}, pods) as cluster:
        kubeconfig = cluster.kubeconfig(tmp_path)
        with Client.from_resource("a", kubeconfig=kubeconfig) as client:
            client.wait_until_ready(30)
            for _ in range(3):
                with client.stream("首都は") as stream:
                    assert "".join(chunk.text for chunk in stream) == "東京です"
            host, _, port = client.endpoint.rpartition(":")
        assert set(cluster.reached) == {"works"}
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)))


@pytest.mark.usefixtures("no_leaks")
def test_large_requests_pass(answers: FakeServer, tmp_path: Path) -> None:
    targets = {"works": answers.endpoint}
    with (
        FakeCluster(resource(SERVES), targets, [pod("works")]) as cluster,
        Client.from_resource("a", "mine", kubeconfig=cluster.kubeconfig(tmp_path)) as client,
    ):
        client.generate("長" * 1_000_000)
    assert answers.requests[-1].prompt == "長" * 1_000_000


@pytest.mark.usefixtures("no_leaks")
def test_another_pod_when_one_goes(answers: FakeServer, tmp_path: Path) -> None:
    with FakeServer(["京都"]) as first, ExitStack() as rest:
        targets = {"one": first.endpoint, "two": answers.endpoint}
        cluster = rest.enter_context(FakeCluster(resource(SERVES), targets, [pod("one")]))
        kubeconfig = cluster.kubeconfig(tmp_path)
        client = rest.enter_context(Client.from_resource("a", kubeconfig=kubeconfig))
        assert client.generate("首都は").text == "京都"
        cluster.pods[:] = [pod("one", ready=False), pod("two")]
        first.stop()
        assert client.generate("首都は").text == "東京です"


@pytest.mark.usefixtures("no_leaks")
def test_no_pod_is_ready(tmp_path: Path) -> None:
    with (
        FakeCluster(resource(SERVES), {}, [pod("a", ready=False)]) as cluster,
        Client.from_resource("a", kubeconfig=cluster.kubeconfig(tmp_path)) as client,
        pytest.raises(Unavailable),
    ):
        client.generate("首都は", timeout=5)


@pytest.mark.usefixtures("no_leaks")
def test_a_client_that_is_lost_ends_its_forward(answers: FakeServer, tmp_path: Path) -> None:
    with FakeCluster(resource(SERVES), {"works": answers.endpoint}, [pod("works")]) as cluster:
        client = Client.from_resource("a", kubeconfig=cluster.kubeconfig(tmp_path))
        del client
        gc.collect()


@pytest.mark.usefixtures("no_leaks")
def test_asyncio(answers: FakeServer, tmp_path: Path) -> None:
    async def talk(kubeconfig: Path) -> str:
        client = await AsyncClient.from_resource("a", kubeconfig=kubeconfig)
        async with client, client.stream("首都は") as stream:
            return "".join([chunk.text async for chunk in stream])

    with FakeCluster(resource(SERVES), {"works": answers.endpoint}, [pod("works")]) as cluster:
        assert asyncio.run(talk(cluster.kubeconfig(tmp_path))) == "東京です"


@pytest.mark.usefixtures("no_leaks")
def test_asyncio_cancelled_while_waiting(tmp_path: Path) -> None:
    async def give_up(cluster: FakeCluster) -> None:
        kubeconfig = cluster.kubeconfig(tmp_path)
        task = asyncio.create_task(AsyncClient.from_resource("a", kubeconfig=kubeconfig))
        await asyncio.to_thread(cluster.watched.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with FakeCluster(resource(said("Building")), {}) as cluster:
        asyncio.run(give_up(cluster))


@pytest.mark.usefixtures("no_leaks")
def test_what_cannot_be_found(tmp_path: Path) -> None:
    with FakeCluster(None, {}) as cluster:
        kubeconfig = cluster.kubeconfig(tmp_path)
        with pytest.raises(ModelNotFound, match="no LlmJpModel a in namespace mine"):
            Client.from_resource("a", kubeconfig=kubeconfig)
    with pytest.raises(Unavailable, match="the API server cannot be reached"):
        Client.from_resource("a", kubeconfig=kubeconfig)
    with pytest.raises(ValueError, match="no access to a cluster"):
        Client.from_resource("a", kubeconfig=tmp_path / "none")


# On a real API server.


def applied(cluster: Cluster, namespace: Kubectl) -> None:
    cluster.kubectl.apply(definition())
    cluster.kubectl.wait(f"crd/{CRD}", "condition=Established")
    namespace.apply(model(name="a"))


@pytest.mark.cluster
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


@pytest.mark.cluster
def test_time_is_up(control_plane: Cluster, namespace: Kubectl) -> None:
    applied(control_plane, namespace)
    with pytest.raises(ModelNotServed, match=r"not served after 0.5 s: phase Pending"):
        Client.from_resource("a", namespace.namespace, wait=0.5, kubeconfig=namespace.kubeconfig)


@pytest.mark.cluster
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
    source = Path(__file__).parents[1] / "e2e" / "cluster" / "pod.c"
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


@pytest.mark.cluster
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
