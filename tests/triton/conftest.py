"""One real tritonserver over the example model for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmjp_client import Client
from llmjp_runtime.server.process import TritonServer
from tests.support.triton import EXAMPLE, build_artefact, serving


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.triton)


@pytest.fixture(scope="session")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_artefact(EXAMPLE, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def server_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("triton") / "triton.log"


@pytest.fixture(scope="session")
def server(artefact: Path, server_log: Path) -> Iterator[TritonServer]:
    with serving(artefact, server_log) as server:
        yield server


@pytest.fixture(scope="session")
def client(server: TritonServer) -> Iterator[Client]:
    with Client(server.grpc_endpoint) as client:
        yield client
