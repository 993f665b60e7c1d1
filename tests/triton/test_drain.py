"""A server that ends while clients use it: drained, asked to end, killed at last."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llmjp_client import Client, Options, Unavailable
from llmjp_runtime.server import process as server_process
from llmjp_runtime.server.command import build_world_command
from llmjp_runtime.server.process import TritonServer
from llmjp_runtime.server.processes import is_alive, list_descendants
from tests.support.forwarder import Forwarder
from tests.support.serve_command import served
from tests.support.shared import ROOT
from tests.support.triton import serving
from tests.triton.test_failures import ENDLESS, QUESTION, probe, until

SHORT: Options = {"max_tokens": 4, "top_k": 1}


def drain(server: TritonServer) -> dict[str, object]:
    url = f"http://127.0.0.1:{server.settings.health_port}/drain"
    with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=30) as response:
        state: dict[str, object] = json.load(response)
        return state


def num_requests(server: TritonServer) -> int:
    """Requests that Triton has given to the front model."""
    url = f"http://127.0.0.1:{server.endpoints.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as response:
        lines = response.read().decode().splitlines()
    [count] = [line for line in lines if line.startswith(_EXECUTIONS)]
    return int(count.rpartition(" ")[2])


_EXECUTIONS = 'nv_inference_exec_count{model="llmjp",'


class Asked(threading.Thread):
    """Reads a stream in a thread; its end or error."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.began = threading.Event()
        self.reason: str | None = None
        self.error: Exception | None = None
        self._client = client
        self.start()

    def run(self) -> None:
        try:
            with self._client.stream(QUESTION, timeout=600, **ENDLESS) as stream:
                for _ in stream:
                    self.began.set()
                self.reason = stream.finish_reason
        except Exception as exc:  # noqa: BLE001  a thread's edge
            self.error = exc
        self.began.set()

    def ended(self) -> str | None:
        self.join(120)
        assert self.error is None, self.error
        return self.reason


@contextmanager
def streams(endpoint: str, count: int) -> Iterator[list[Asked]]:
    """Streams at an endpoint, of which the first has begun."""
    with Client(endpoint, retries=0) as client:
        asked = [Asked(client) for _ in range(count)]
        until(lambda: any(each.began.is_set() for each in asked), "a stream began", 120)
        yield asked
        for each in asked:
            each.join(120)


def test_a_rollout_fails_no_request(artefact: Path, tmp_path: Path) -> None:
    with (
        serving(artefact, tmp_path / "a", drain_grace_s=0.0) as old,
        serving(artefact, tmp_path / "b") as new,
        Forwarder(old.grpc_endpoint) as service,
        Client(service.endpoint) as client,
    ):
        running = Asked(client)
        assert running.began.wait(120)
        before = num_requests(new)
        service.target = new.grpc_endpoint
        state = drain(old)
        assert state["done"] is (state["running"] == 0)
        assert probe(old)[0] == 503
        assert probe(old)[1]["reason"] == "draining"
        assert probe(old, "/livez")[0] == 200
        # Over the same client, whose connection leads to the old server.
        with client.stream(QUESTION, **SHORT) as stream:
            assert stream.reply().usage.output_tokens == 4
        assert client.chat(QUESTION, **SHORT).usage.output_tokens == 4
        assert num_requests(new) == before + 2
        assert service.connections == [old.grpc_endpoint, new.grpc_endpoint]
        assert running.ended() == "length"
        until(lambda: drain(old)["done"] is True, "drained")


def test_while_draining_requests_are_taken_for_a_while(artefact: Path, tmp_path: Path) -> None:
    with (
        serving(artefact, tmp_path / "log", drain_grace_s=3600.0) as server,
        Client(server.grpc_endpoint, retries=0) as client,
    ):
        assert not drain(server)["done"]
        assert probe(server)[0] == 503
        assert client.chat(QUESTION, **SHORT).usage.output_tokens == 4


@pytest.mark.parametrize("model", ["llmjp", "ensemble"])
def test_a_drained_server_refuses_over_http_too(artefact: Path, tmp_path: Path, model: str) -> None:
    with serving(artefact, tmp_path / "log", drain_grace_s=0.0) as server:
        drain(server)
        url = f"http://127.0.0.1:{server.endpoints.http_port}/v2/models/{model}/generate"
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(url, data=b'{"text_input": "x"}', timeout=60)
        with caught.value as error:
            # Triton 2.51 makes every error of /generate a 400: only the words tell.
            assert b"[unavailable] this server is about to end" in error.read()


def test_the_command_waits_for_what_runs(artefact: Path) -> None:
    with served(artefact, "--drain-grace", 0) as server:
        server.wait_ready()
        with streams(server.endpoint, 2) as asked, server.drain("--timeout", "600") as waiting:
            assert waiting.communicate(timeout=180)[1].startswith("drained in ")
            assert waiting.returncode == 0
            assert [each.ended() for each in asked] == ["length", "length"]
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 0, server.stderr


def test_sigterm_lets_running_streams_end(artefact: Path) -> None:
    with served(artefact, "--max-batch-size", 1) as server:
        server.wait_ready()
        with streams(server.endpoint, 3) as asked:
            pids = list_descendants(server.process.pid)
            server.process.send_signal(signal.SIGTERM)
            with Client(server.endpoint, retries=0) as client:
                until(lambda: refused(client), "new requests are refused")
            assert [each.ended() for each in asked] == ["length"] * 3
        assert server.wait() == 0, server.stderr
    assert not any(map(is_alive, pids))


def refused(client: Client) -> bool:
    try:
        client.generate("x", max_tokens=1)
    except Unavailable:
        return True
    return False


def test_what_takes_too_long_is_cut_off(artefact: Path, tmp_path: Path) -> None:
    said = tmp_path / "said"
    options = ("--max-batch-size", 1, "--exit-timeout", 1, "--termination-message", said)
    with served(artefact, *options) as server:
        server.wait_ready()
        with streams(server.endpoint, 30) as asked:
            pids = list_descendants(server.process.pid)
            server.process.send_signal(signal.SIGTERM)
            assert server.wait() == 1
        assert any(isinstance(each.error, Unavailable) for each in asked)
        assert "had not ended 1 s after" in server.lines[-1]
        assert json.loads(said.read_text())["code"] == "exit_timed_out"
    assert not any(map(is_alive, pids))


def test_sigterm_while_it_loads_ends_it_at_once(artefact: Path, tmp_path: Path) -> None:
    said = tmp_path / "said"
    with served(artefact, "--termination-message", said) as server:
        until(lambda: bool(servers_below(server.process.pid)), "tritonserver starts", 120)
        pids = list_descendants(server.process.pid)
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 143, server.stderr
        assert json.loads(said.read_text())["code"] == "terminated"
    assert not any(map(is_alive, pids))


def servers_below(pid: int) -> list[int]:
    def name(pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            return ""

    return [below for below in list_descendants(pid) if name(below) == "tritonserver"]


def test_why_it_did_not_start_is_left_behind(artefact: Path, tmp_path: Path) -> None:
    broken, said = tmp_path / "broken", tmp_path / "said"
    subprocess.run(["cp", "-r", artefact, broken], check=True)
    weights = broken / "rank1.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[:8] = b"\xff" * 8
    weights.write_bytes(damaged)
    environment = {**os.environ, "LLMJP_TERMINATION_MESSAGE": str(said)}
    with served(broken, env=environment) as server:
        assert server.wait() == 3, server.stderr
        words = json.loads(said.read_text())
        assert words["code"] == "artefact_invalid"
        assert "rank1.safetensors" in words["message"]
        assert server.lines[-1] == f"llmjp: {words['message']}"


def test_why_it_died_is_left_behind(artefact: Path, tmp_path: Path) -> None:
    said = tmp_path / "said"
    with served(artefact, "--termination-message", said) as server:
        server.wait_ready()
        (triton,) = servers_below(server.process.pid)
        for model in list_descendants(triton):
            os.kill(model, signal.SIGKILL)
        assert server.wait() == 1, server.stderr
        words = json.loads(said.read_text())
        assert words["code"] == "server_failed"
        assert words["message"].startswith("the front model's process died: ")


def mpirun(name: str, folder: Path) -> Path:
    """A folder with an `mpirun`."""
    if name == "stand-in":
        return ROOT / "tests" / "support" / "mpirun_stand_in"
    found = os.environ.get("LLMJP_TEST_MPIRUN") or shutil.which("mpirun")
    if not found:
        pytest.skip("mpirun is not installed; LLMJP_TEST_MPIRUN may name one")
    (folder / "mpirun").symlink_to(found)
    return folder


@pytest.mark.parametrize("name", ["stand-in", "real"])
def test_under_mpirun_running_streams_end_before_the_other_ranks(
    artefact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "bin").mkdir()
    path = [str(mpirun(name, tmp_path / "bin")), os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(path))

    def two_ranks(leader: list[str], _world_size: int) -> list[str]:
        """The second rank only waits, as those of an engine do for the first."""
        line = build_world_command(leader, 2)
        return [*line[: line.index(":") + 1], "-n", "1", "sleep", "600"]

    monkeypatch.setattr(server_process, "build_world_command", two_ranks)
    with serving(artefact, tmp_path / "log", max_batch_size=1) as server:
        server._world_size = 2
        pids = [server.pid, *list_descendants(server.pid)]
        with streams(server.grpc_endpoint, 8) as asked:
            ended = in_background(server.wait)
            server.terminate()
            assert [each.ended() for each in asked] == ["length"] * 8
            assert ended() is None
    assert not any(map(is_alive, pids))


def in_background(call: Callable[[], None]) -> Callable[[], Exception | None]:
    """Call it in a thread; what it raises, once it has ended."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            call()
        except Exception as exc:  # noqa: BLE001  a thread's edge
            raised.append(exc)

    thread = threading.Thread(target=run)
    thread.start()

    def result() -> Exception | None:
        thread.join(120)
        assert not thread.is_alive()
        return raised[0] if raised else None

    return result
