"""Clients that leave, servers that die: who notices, and what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmjp_client import Client, LlmJpError, Unavailable
from llmjp_runtime.engine.proxy import HOST_MODULE
from llmjp_runtime.errors import ArtefactInvalid, PortInUse
from llmjp_runtime.server.endpoints import Endpoints
from llmjp_runtime.server.preflight import find_free_ports
from llmjp_runtime.server.process import TritonServer
from llmjp_runtime.server.processes import find_by_argument
from llmjp_runtime.settings import ServingSettings
from tests.support.triton import serving

QUESTION = [{"role": "user", "content": "むかしむかし、あるところに"}]
ENDLESS: dict[str, Any] = {"top_k": 1, "repetition_penalty": 1.0, "min_tokens": 480}
"""A reply that goes on until the context is full."""
PAUSE_S = 3.0
"""Longer than Triton (1 s) and `llmjp serve` (0.5 s) wait between two looks at a process."""


def until(condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Wait for a condition; fail in its name."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)


def probe(server: TritonServer, path: str = "/readyz") -> tuple[int, dict[str, Any]]:
    """Status and body of a probe; status 0 where nobody answers."""
    url = f"http://127.0.0.1:{server.settings.health_port}{path}"
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except OSError:
        return 0, {}


def list_descendants(pid: int) -> set[int]:
    """Every process below `pid`."""
    listing = subprocess.run(
        ["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True
    )
    parent = {int(a): int(b) for a, b in (line.split() for line in listing.stdout.splitlines())}
    found: set[int] = set()
    while new := {p for p, above in parent.items() if above in {pid, *found}} - found:
        found |= new
    return found


def child_of(pid: int) -> int:
    """The only process started by `pid`."""
    listing = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True)
    (child,) = listing.stdout.split()
    return int(child)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("model", ["llmjp", "ensemble"])
def test_leaving_a_stream_frees_its_slot(artefact: Path, tmp_path: Path, model: str) -> None:
    with (
        serving(artefact, tmp_path / "log", max_batch_size=1) as server,
        Client(server.grpc_endpoint, model=model) as client,
    ):
        with client.stream(QUESTION, **ENDLESS) as stream:
            next(iter(stream))
        # With one slot, an answer proves that the slot is free; a full reply would take its turn.
        reply = client.chat(QUESTION, max_tokens=1)
        assert reply.usage.output_tokens == 1
        until(lambda: probe(server)[1]["active"] == 0, "no active request")


def test_a_deadline_reaches_the_server(server: TritonServer, client: Client) -> None:
    with pytest.raises(LlmJpError) as caught:
        client.chat(QUESTION, timeout=0.02, **ENDLESS)
    assert type(caught.value).__name__ == "DeadlineExceeded"
    until(lambda: probe(server)[1]["active"] == 0, "no active request")


def test_a_killed_server_is_a_typed_error_with_the_text_so_far(
    artefact: Path, tmp_path: Path
) -> None:
    with (
        serving(artefact, tmp_path / "log") as server,
        Client(server.grpc_endpoint, retries=0) as client,
    ):
        children = list_descendants(server.pid)
        assert children
        with client.stream(QUESTION, **ENDLESS) as stream:
            for _ in range(3):
                next(stream)
            os.kill(server.pid, signal.SIGKILL)
            with pytest.raises(Unavailable) as caught:
                stream.reply()
        assert caught.value.partial_text
        # The models' processes end by themselves, with the memory they hold.
        until(lambda: not any(map(is_alive, children)), "no process of the dead server")


def test_readiness_tells_a_dead_model_from_a_living_server(artefact: Path, tmp_path: Path) -> None:
    with serving(artefact, tmp_path / "log") as server:
        assert probe(server)[0] == 200
        assert probe(server, "/livez")[0] == 200
        for child in list_descendants(server.pid):
            os.kill(child, signal.SIGKILL)
        until(lambda: probe(server)[0] == 0, "nobody answers /readyz")
        assert not server.is_ready()


def test_a_pause_of_the_machine_costs_nothing(server: TritonServer, client: Client) -> None:
    below = list_descendants(server.pid)
    with client.stream(QUESTION, **ENDLESS) as stream:
        next(stream)
        everything = [server.pid, *below]
        for pid in everything:
            os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(PAUSE_S)
        finally:
            for pid in everything:
                os.kill(pid, signal.SIGCONT)
        assert stream.reply().finish_reason == "length"
    assert list_descendants(server.pid) == below
    until(lambda: probe(server)[0] == 200, "ready again")


def test_clients_and_probes_are_told_the_same_of_an_engine_that_hangs(
    server: TritonServer, client: Client
) -> None:
    engine = find_by_argument(list_descendants(server.pid), HOST_MODULE)
    assert engine
    with Client(server.grpc_endpoint, model="ensemble") as nvidia:
        assert client.is_ready()
        assert nvidia.is_ready()
        os.kill(engine, signal.SIGSTOP)
        try:
            until(lambda: probe(server)[0] == 503, "not ready")
            assert not client.is_ready()
            assert not nvidia.is_ready()
        finally:
            os.kill(engine, signal.SIGCONT)
        nvidia.wait_until_ready()
    assert probe(server)[0] == 200


def test_stopping_the_server_leaves_nothing(artefact: Path, tmp_path: Path) -> None:
    with serving(artefact, tmp_path / "log") as server:
        pids = {server.pid, *list_descendants(server.pid)}
    assert not any(map(is_alive, pids))
    assert not list(Path("/dev/shm").glob(f"llmjp_{os.getpid()}_{server.endpoints.grpc_port}_*"))


def test_a_taken_port_is_said_before_anything_starts(server: TritonServer, artefact: Path) -> None:
    http, metrics, health = find_free_ports(3)
    with pytest.raises(PortInUse, match="--grpc-port"):
        TritonServer(
            ServingSettings(artefact=artefact, health_port=health),
            Endpoints(http_port=http, grpc_port=server.endpoints.grpc_port, metrics_port=metrics),
        )


def test_a_damaged_artefact_fails_with_its_reason(artefact: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    subprocess.run(["cp", "-r", artefact, broken], check=True)
    weights = broken / "rank1.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(ArtefactInvalid, match="rank1"), serving(broken, tmp_path / "log"):
        pass


def test_http_streams_and_answers(server: TritonServer) -> None:
    base = f"http://127.0.0.1:{server.endpoints.http_port}/v2/models/llmjp"
    body = {"messages": json.dumps(QUESTION), "max_tokens": 8, "top_k": 1}

    def post(path: str, **more: Any) -> bytes:
        data = json.dumps({**body, **more}).encode()
        with urllib.request.urlopen(f"{base}/{path}", data=data, timeout=60) as response:
            content: bytes = response.read()
            return content

    whole = json.loads(post("generate"))["text_output"]
    events = [
        json.loads(line.removeprefix("data: "))
        for line in post("generate_stream", stream=True).decode().splitlines()
        if line.startswith("data: ")
    ]
    assert whole
    assert "".join(event["text_output"] for event in events) == whole
