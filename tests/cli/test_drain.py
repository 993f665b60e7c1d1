"""`llmjp drain` against a health server, and where there is none."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import typer
from typer.testing import CliRunner, Result

from llmjp_cli.commands.drain import drain_server
from llmjp_runtime.front.health import DrainState, HealthServer

APP = typer.Typer()
APP.command()(drain_server)


@contextmanager
def server(order: Callable[[], DrainState]) -> Iterator[int]:
    health = HealthServer("127.0.0.1", 0, {}, {"/drain": order})
    yield health.port
    health.close()


def run(port: int, *arguments: str) -> Result:
    return CliRunner().invoke(APP, ["--health", f"127.0.0.1:{port}", *arguments])


def line(result: Result) -> str:
    """The only line, of a command that never fails."""
    assert (result.exit_code, result.stdout) == (0, "")
    (line,) = result.stderr.splitlines()
    return line


def test_it_waits_until_nothing_runs() -> None:
    states = iter(
        [
            DrainState(False, 2, 0.1),
            DrainState(False, 0, 0.05),
            DrainState(False, 1, 0.0),
            DrainState(True, 0, 0.0),
        ]
    )
    with server(lambda: next(states)) as port:
        assert line(run(port)).startswith("drained in ")
    assert next(states, None) is None


def test_it_says_what_is_left_when_the_time_is_up() -> None:
    with server(lambda: DrainState(False, 3, 0.0)) as port:
        said = line(run(port, "--timeout", "0"))
    assert said.startswith("not drained in ")
    assert said.endswith("3 requests are still running")


def test_without_a_server_there_is_nothing_to_drain() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert line(run(port)) == f"nothing to drain: no server listens at 127.0.0.1:{port}"


def test_a_server_that_does_not_understand_is_asked_until_the_time_is_up() -> None:
    health = HealthServer("127.0.0.1", 0, {})
    said = line(run(health.port, "--timeout", "0"))
    health.close()
    assert said.endswith("it did not answer")


@pytest.mark.parametrize("address", ["8003", "localhost:", ":8003", "localhost:http"])
def test_an_address_is_host_and_port(address: str) -> None:
    result = CliRunner().invoke(APP, ["--health", address])
    assert result.exit_code == 2
    assert "127.0.0.1:8003" in result.stderr
