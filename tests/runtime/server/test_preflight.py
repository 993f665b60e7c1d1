"""What is refused before a server starts."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from llmjp_runtime.errors import PortInUse, UnusableInterpreter
from llmjp_runtime.server.preflight import (
    Interpreter,
    check_interpreter,
    check_ports,
    free_ports,
    observe_interpreter,
)

GOOD = Interpreter("3.11.7", "1.26.4", "libpython3.11.so.1.0", libpython_found=True)


def test_this_interpreter_can_serve() -> None:
    check_interpreter(observe_interpreter())
    check_interpreter(GOOD)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": "3.13.1"}, "Python 3.13.1 cannot serve"),
        ({"numpy_version": None}, "numpy is not installed"),
        ({"numpy_version": "2.1.0"}, "numpy 2.1.0 is installed"),
        ({"libpython_found": False}, "apt-get install libpython3.11"),
    ],
)
def test_an_unusable_interpreter_says_what_to_install(change: dict[str, object], says: str) -> None:
    with pytest.raises(UnusableInterpreter, match=says) as caught:
        check_interpreter(replace(GOOD, **change))  # type: ignore[arg-type]
    assert caught.value.exit_code == 6


def test_a_taken_port_names_its_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {port} on 127.0.0.1 is in use.*--grpc-port"):
            check_ports("127.0.0.1", {"--grpc-port": port})


def test_one_port_for_two_is_refused() -> None:
    (port,) = free_ports(1)
    with pytest.raises(PortInUse):
        check_ports("127.0.0.1", {"--http-port": port, "--grpc-port": port})


def test_free_ports_are_free_and_different() -> None:
    ports = free_ports(4)
    assert len(set(ports)) == 4
    check_ports("127.0.0.1", {f"--{i}": port for i, port in enumerate(ports)})
