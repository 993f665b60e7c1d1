"""Encryption by a real tritonserver: gRPC is, HTTP stays on this machine, the rest is plain."""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmjp_client import TLS, AsyncClient, Client, Unavailable
from llmjp_runtime.server.processes import list_descendants
from tests.support.certificate import Certificate, self_signed
from tests.support.serve_command import LLMJP, Served, served

PROMPT = "日本の首都は"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("tls"), name="llmjp.example")


@pytest.fixture(scope="module")
def secure(artefact: Path, certificate: Certificate) -> Iterator[Served]:
    files = ("--tls-cert", certificate.certificate, "--tls-key", certificate.key)
    with served(artefact, "--host", "0.0.0.0", *files) as server:
        server.wait_ready()
        yield server


def trust(certificate: Certificate) -> TLS:
    return TLS(ca=certificate.certificate, server_name="llmjp.example")


def test_clients_that_trust_the_certificate(secure: Served, certificate: Certificate) -> None:
    with Client(secure.endpoint, tls=trust(certificate)) as client:
        client.wait_until_ready(timeout=60)
        with client.stream(PROMPT, max_tokens=4) as stream:
            assert stream.reply().usage.output_tokens <= 4


def test_models_reach_their_own_encrypted_server(secure: Served, certificate: Certificate) -> None:
    with Client(secure.endpoint, model="ensemble", tls=trust(certificate)) as client:
        client.wait_until_ready(timeout=60)
        assert client.generate(PROMPT, max_tokens=4).usage.output_tokens <= 4


async def ask(endpoint: str, tls: TLS) -> int:
    async with AsyncClient(endpoint, tls=tls) as client:
        return (await client.generate(PROMPT, max_tokens=4)).usage.output_tokens


def test_asyncio(secure: Served, certificate: Certificate) -> None:
    import asyncio

    assert asyncio.run(ask(secure.endpoint, trust(certificate))) <= 4


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "no trust"])
def test_others_are_told_what_to_look_at(secure: Served, tls: bool) -> None:
    with (
        Client(secure.endpoint, tls=tls, retries=0) as client,
        pytest.raises(Unavailable, match="both sides use TLS or neither"),
    ):
        client.generate(PROMPT, max_tokens=4)


def test_another_name_is_not_trusted(secure: Served, certificate: Certificate) -> None:
    tls = TLS(ca=certificate.certificate)
    with Client(secure.endpoint, tls=tls, retries=0) as client, pytest.raises(Unavailable):
        client.generate(PROMPT, max_tokens=4)


def test_the_commands(secure: Served, certificate: Certificate) -> None:
    where = ("--endpoint", secure.endpoint, "--tls-ca", str(certificate.certificate))
    for command in (
        ("generate", PROMPT, "--max-tokens", "4", "--no-stream"),
        ("chat", "--message", "日本の首都はどこですか。", "--max-tokens", "8"),
        ("bench", "--requests", "2", "--concurrency", "1", "--max-tokens", "4", "--json"),
    ):
        done = subprocess.run(
            [*LLMJP, *command, *where, "--tls-name", "llmjp.example"],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout


def listening(pid: int) -> dict[int, set[str]]:
    """Ports on which a process and all below it listen, and the addresses, as Linux spells them."""
    own: set[str] = set()
    for each in (pid, *list_descendants(pid)):
        own |= {str(fd.readlink()) for fd in Path(f"/proc/{each}/fd").iterdir() if fd.is_symlink()}
    found: dict[int, set[str]] = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
            address, port = fields[1].split(":")
            found.setdefault(int(port, 16), set()).add(address)
    return found


def test_only_what_is_encrypted_or_says_nothing_private_is_offered(secure: Served) -> None:
    found = listening(secure.process.pid)
    everywhere, here = {"00000000"}, {"0100007F"}
    assert found.get(secure.http) == here
    assert found.get(secure.metrics) == everywhere
    assert found.get(secure.health) == everywhere
    assert set(found) <= {secure.http, secure.grpc, secure.metrics, secure.health}
    for port, path in (
        (secure.http, "/v2/health/ready"),
        (secure.health, "/readyz"),
        (secure.metrics, "/metrics"),
    ):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as response:
            assert response.status == 200


def test_it_says_how_to_reach_it(secure: Served) -> None:
    assert f"grpcs://0.0.0.0:{secure.grpc}" in secure.stderr
    assert f"HTTP 127.0.0.1:{secure.http}" in secure.stderr


def test_what_cannot_be_used_is_refused_before_anything_starts(
    artefact: Path, certificate: Certificate, tmp_path: Path
) -> None:
    other = self_signed(tmp_path)
    for options, says in (
        (("--tls-cert", certificate.certificate), "need each other"),
        (("--tls-cert", certificate.certificate, "--tls-key", other.key), "not a certificate and"),
        (("--tls-cert", tmp_path / "none", "--tls-key", other.key), "is no file"),
    ):
        with served(artefact, *options) as server:
            assert server.wait() == 2, server.stderr
            assert says in server.stderr
