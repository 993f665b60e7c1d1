"""What is refused before a server starts."""

from __future__ import annotations

import os
import socket
from dataclasses import replace

import pytest

from llmjp_runtime.errors import PortInUse, RuntimeFailure, TritonMissing, UnsupportedModel
from llmjp_runtime.server.preflight import (
    EngineHost,
    check_engine_host,
    check_ports,
    find_free_ports,
)
from tests.runtime.executor.tensorrt.test_model_config import ENGINE

HOST = EngineHost(has_backend=True, has_mpirun=True, tensorrt_llm="1.2.1", num_gpus=8)


def test_a_taken_port_names_its_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {port} on 127.0.0.1 is in use.*--grpc-port"):
            check_ports("127.0.0.1", {"--grpc-port": port})


def test_a_taken_port_names_who_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"is in use by .+ \({os.getpid()}\): choose another"):
            check_ports("127.0.0.1", {"--grpc-port": port})


def test_one_port_for_two_is_refused() -> None:
    (port,) = find_free_ports(1)
    with pytest.raises(PortInUse, match="given to --http-port and --grpc-port"):
        check_ports("127.0.0.1", {"--http-port": port, "--grpc-port": port})


def test_free_ports_are_free_and_different() -> None:
    ports = find_free_ports(4)
    assert len(set(ports)) == 4
    check_ports("127.0.0.1", {f"--{i}": port for i, port in enumerate(ports)})


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"has_backend": False}, TritonMissing, "no backend tensorrtllm.*nvcr.io"),
        ({"has_mpirun": False}, TritonMissing, "mpirun is not on PATH.*8 ranks"),
        ({"tensorrt_llm": "1.1.0"}, UnsupportedModel, "built by TensorRT-LLM 1.2.1, but 1.1.0"),
        ({"num_gpus": 4}, UnsupportedModel, r"needs 8 GPUs \(tp 4 x pp 2\), but there are 4"),
    ],
)
def test_a_machine_that_cannot_run_the_engine(
    change: dict[str, object], error: type[RuntimeFailure], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        check_engine_host(ENGINE, replace(HOST, **change))  # type: ignore[arg-type]
    assert caught.value.exit_code == 6


def test_a_machine_that_can() -> None:
    check_engine_host(ENGINE, HOST)
    check_engine_host(ENGINE, replace(HOST, tensorrt_llm=None, num_gpus=None))
    single = replace(ENGINE, tensor_parallel=1, pipeline_parallel=1)
    check_engine_host(single, replace(HOST, has_mpirun=False, num_gpus=1))
