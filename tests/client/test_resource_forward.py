"""`from_resource` from outside: a real gRPC server, behind a fake API server."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from llmjp_client import TLS, AsyncClient, Client, ModelNotFound, NotPermitted, Unavailable
from llmjp_client.testing import FakeServer
from tests.client.fake_cluster import FakeCluster, pod
from tests.client.resources import HOST, SERVES, resource, said
from tests.support.certificate import self_signed


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
@pytest.mark.parametrize("right", ["pods", "portforward"])
def test_a_right_is_missing(answers: FakeServer, tmp_path: Path, right: str) -> None:
    targets = {"works": answers.endpoint}
    with FakeCluster(resource(SERVES), targets, [pod("works")], forbidden=right) as cluster:
        kubeconfig = cluster.kubeconfig(tmp_path)
        with pytest.raises(NotPermitted, match="403"):
            Client.from_resource("a", kubeconfig=kubeconfig)


@pytest.mark.usefixtures("no_leaks")
def test_a_login_that_ran_out_is_read_again(answers: FakeServer, tmp_path: Path) -> None:
    targets = {"works": answers.endpoint}
    with FakeCluster(resource(SERVES), targets, [pod("works")]) as cluster:
        kubeconfig = cluster.kubeconfig(tmp_path)
        with Client.from_resource("a", kubeconfig=kubeconfig) as client:
            cluster.token = "newer"
            cluster.kubeconfig(tmp_path)
            assert client.generate("首都は").text == "東京です"
        cluster.token = "newest"  # and nobody wrote it down
        with pytest.raises(NotPermitted, match="401"):
            Client.from_resource("a", kubeconfig=kubeconfig)


@pytest.mark.usefixtures("no_leaks")
def test_tls_to_a_pod_names_the_service(tmp_path: Path) -> None:
    made = self_signed(tmp_path, HOST)
    pair = (made.key.read_bytes(), made.certificate.read_bytes())
    found = resource(SERVES, tls="certificate")
    with (
        FakeServer(["東京"], credentials=grpc.ssl_server_credentials([pair])) as server,
        FakeCluster(found, {"works": server.endpoint}, [pod("works")]) as cluster,
    ):
        kubeconfig = cluster.kubeconfig(tmp_path)
        trusts = TLS(ca=made.certificate)
        with Client.from_resource("a", kubeconfig=kubeconfig, tls=trusts) as client:
            assert client.generate("首都は").text == "東京"
        with (
            Client.from_resource("a", kubeconfig=kubeconfig, retries=0) as client,
            pytest.raises(Unavailable),
        ):
            client.generate("首都は", timeout=5)


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
