"""The commands against a real server: build, serve, generate, chat; and what goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from llmjp_client import Client, LlmJpError, Options, ServerError, Unavailable
from llmjp_runtime.engine.proxy import HOST_MODULE
from llmjp_runtime.server.preflight import find_free_ports
from llmjp_runtime.server.process import TritonServer
from tests.support.triton import EXAMPLE
from tests.triton.test_failures import is_alive, list_descendants

LLMJP = (sys.executable, "-m", "llmjp_cli")


def llmjp(*arguments: object, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LLMJP, *map(str, arguments)],
        input=text,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_build_prints_the_artefacts_path_last(tmp_path: Path) -> None:
    done = llmjp("build", EXAMPLE, "--store", tmp_path / "store", "--tp", 2)
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.splitlines()[-1])
    assert (path / "manifest.json").is_file()
    again = llmjp("build", EXAMPLE, "--store", tmp_path / "store", "--tp", 2)
    assert again.stdout.splitlines()[-1] == str(path)


def test_generate_and_chat_talk_to_it(server: TritonServer) -> None:
    where = ("--endpoint", server.grpc_endpoint)
    generated = llmjp("generate", "日本の首都は", "--json", "--max-tokens", 8, *where)
    assert generated.returncode == 0, generated.stderr
    assert json.loads(generated.stdout)["usage"]["output_tokens"] <= 8
    chatted = llmjp("chat", "--message", "日本の首都はどこですか。", *where)
    assert chatted.returncode == 0, chatted.stderr
    assert chatted.stdout.strip()


def test_bench_reports_json(server: TritonServer) -> None:
    done = llmjp(
        "bench", "--endpoint", server.grpc_endpoint, "--requests", 4, "--concurrency", 2,
        "--max-tokens", 8, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (("serve", "/nonexistent"), 3, "no manifest.json"),
        (("serve", EXAMPLE), 3, "no manifest.json"),
        (("generate", "x", "--endpoint", "127.0.0.1:1"), 1, "127.0.0.1:1"),
        (("demo", "--checkpoint", "/nonexistent"), 3, "--checkpoint"),
    ],
)
def test_failures_are_one_line(arguments: tuple[object, ...], exit_code: int, says: str) -> None:
    done = llmjp(*arguments)
    assert done.returncode == exit_code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_taken_port_is_a_usage_error(server: TritonServer, artefact: Path) -> None:
    http, metrics, health = find_free_ports(3)
    done = llmjp(
        "serve", artefact, "--grpc-port", server.endpoints.grpc_port, "--http-port", http,
        "--metrics-port", metrics, "--health-port", health,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"port {server.endpoints.grpc_port}" in done.stderr
    assert "--grpc-port" in done.stderr


def serve(artefact: Path) -> tuple[subprocess.Popen[str], int]:
    """`llmjp serve`, once it says that it is ready; and its gRPC port."""
    http, grpc, metrics, health = find_free_ports(4)
    process = subprocess.Popen(
        [*LLMJP, "serve", str(artefact), "--http-port", str(http), "--grpc-port", str(grpc),
         "--metrics-port", str(metrics), "--health-port", str(health)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr
    for line in process.stderr:
        if f"ready  gRPC 127.0.0.1:{grpc}" in line:
            return process, grpc
    raise AssertionError("it ended before it was ready")


def test_serve_ends_on_sigterm(artefact: Path) -> None:
    process, _ = serve(artefact)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize("victim", ["llmjp", "ensemble"])
def test_serve_ends_when_a_models_process_dies_so_that_no_client_waits(
    artefact: Path, victim: str
) -> None:
    for error in kill_beside_streams(artefact, f"/{victim}/1/model.py", DIED[victim]):
        assert isinstance(error, Unavailable | ServerError)


def test_serve_ends_when_its_engine_dies_and_every_stream_hears_why(artefact: Path) -> None:
    died = "the engine's process died"
    for error in kill_beside_streams(artefact, HOST_MODULE, died):
        assert isinstance(error, Unavailable)
        assert died in error.reason


def kill_beside_streams(artefact: Path, argument: str, died: str) -> list[LlmJpError]:
    """SIGKILL to a process of `llmjp serve` beside a stream of each model; return their errors.

    Args:
        artefact: what is served.
        argument: how an argument of the process ends.
        died: what `llmjp serve` must say of it.
    """
    process, port = serve(artefact)
    errors = []
    endless: Options = {"min_tokens": 480, "top_k": 1, "repetition_penalty": 1.0}
    with ExitStack() as stack:
        streams = []
        for model in ("llmjp", "ensemble"):
            client = stack.enter_context(Client(f"127.0.0.1:{port}", model=model, retries=0))
            streams.append(stack.enter_context(client.stream("むかし", **endless)))
            next(streams[-1])
        below = list_descendants(process.pid)
        (victim,) = [pid for pid in below if has_argument(pid, argument)]
        os.kill(victim, signal.SIGKILL)
        for stream in streams:
            with pytest.raises(LlmJpError) as caught:
                stream.reply()
            errors.append(caught.value)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    # Triton 2.51 aborts now and then where it was sending to a process that is killed.
    expected = died, "tritonserver ended with status -6: Signal (6)"
    assert any(each in err.splitlines()[-1] for each in expected)
    assert "Traceback" not in err
    assert not any(map(is_alive, below))
    return errors


DIED = {
    "llmjp": "the front model's process died",
    "ensemble": "the process of model ensemble died",
}


def has_argument(pid: int, end: str) -> bool:
    arguments = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    return any(argument.endswith(end) for argument in arguments)
