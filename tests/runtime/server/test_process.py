"""The server's command line, environment and log, without a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmjp_runtime.errors import TritonMissing
from llmjp_runtime.server.command import build_command, build_environment
from llmjp_runtime.server.endpoints import Endpoints, TlsFiles
from llmjp_runtime.server.installation import TritonInstallation, find_triton

INSTALLATION = TritonInstallation(
    Path("/t/bin/tritonserver"), Path("/t/backends"), None, (Path("/t/lib"),)
)


def test_the_command_line_names_every_port_and_address() -> None:
    command = build_command(
        INSTALLATION,
        repository=Path("/r"),
        backends=Path("/b"),
        endpoints=Endpoints(host="10.0.0.1", http_port=1, grpc_port=2, metrics_port=3),
        shm_prefix="p_",
        secret="s3cret",
    )
    assert command[0] == "/t/bin/tritonserver"
    for expected in (
        "--model-repository=/r",
        "--backend-directory=/b",
        "--http-address=10.0.0.1",
        "--http-port=1",
        "--grpc-port=2",
        "--metrics-port=3",
        "--backend-config=python,shm-region-prefix-name=p_",
    ):
        assert expected in command


def test_with_a_certificate_http_stays_on_this_machine() -> None:
    command = build_command(
        INSTALLATION,
        repository=Path("/r"),
        backends=Path("/b"),
        endpoints=Endpoints(host="0.0.0.0", tls=TlsFiles(certificate=Path("/c"), key=Path("/k"))),
        shm_prefix="p_",
        secret="s3cret",
    )
    for expected in (
        "--grpc-use-ssl=true",
        "--grpc-server-cert=/c",
        "--grpc-server-key=/k",
        "--grpc-address=0.0.0.0",
        "--metrics-address=0.0.0.0",
        "--http-address=127.0.0.1",
    ):
        assert expected in command


def test_its_own_patience_is_in_whole_seconds_and_not_below_ours() -> None:
    command = build_command(
        INSTALLATION,
        repository=Path("/r"),
        backends=Path("/b"),
        endpoints=Endpoints(),
        shm_prefix="p_",
        secret="s3cret",
        exit_timeout_s=2.5,
    )
    assert "--exit-timeout-secs=3" in command


def test_the_environment_puts_this_python_first() -> None:
    environ = {"PATH": "/usr/bin", "LD_LIBRARY_PATH": "/cuda", "HOME": "/h"}
    result = build_environment(INSTALLATION, environ, Path("/venv/bin/python"))
    assert result["PATH"] == "/venv/bin:/usr/bin"
    assert result["LD_LIBRARY_PATH"] == "/t/lib:/cuda"
    assert result["HOME"] == "/h"


def test_a_named_home_without_a_server_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TritonMissing, match="LLMJP_TRITON_HOME"):
        find_triton({"LLMJP_TRITON_HOME": str(tmp_path)})


def test_a_named_home_is_taken(tmp_path: Path) -> None:
    binary = tmp_path / "bin" / "tritonserver"
    binary.parent.mkdir()
    binary.touch()
    assert find_triton({"LLMJP_TRITON_HOME": str(tmp_path)}).binary == binary
