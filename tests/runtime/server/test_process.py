"""The server's command line, environment and log, without a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmjp_runtime.errors import TritonMissing
from llmjp_runtime.server.installation import TritonInstallation, find_triton
from llmjp_runtime.server.listen import Listen
from llmjp_runtime.server.process import (
    command_line,
    failure_reason,
    server_environment,
)

INSTALLATION = TritonInstallation(
    Path("/t/bin/tritonserver"), Path("/t/backends"), None, (Path("/t/lib"),)
)


def test_the_command_line_names_every_port_and_address() -> None:
    command = command_line(
        INSTALLATION,
        repository=Path("/r"),
        backends=Path("/b"),
        listen=Listen(host="10.0.0.1", http_port=1, grpc_port=2, metrics_port=3),
        shm_prefix="p_",
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


def test_the_environment_puts_this_python_first() -> None:
    environ = {"PATH": "/usr/bin", "LD_LIBRARY_PATH": "/cuda", "HOME": "/h"}
    result = server_environment(INSTALLATION, environ, Path("/venv/bin/python"))
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


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("", "it said nothing"),
        ("one\n\ntwo\n", "two"),
        ('I1\nE1123 17:36:11.2 1 server.cc:241] "port taken"\nI2\n', "port taken"),
        ('x\nValueError: bad checkpoint\nE1123 1 a.cc:1] "later"\n', "bad checkpoint"),
    ],
)
def test_the_reason_is_picked_from_the_log(log: str, reason: str) -> None:
    assert failure_reason(log) == reason
