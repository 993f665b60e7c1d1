"""Triton's protocols that no client needs are closed on a real server, over HTTP and over gRPC."""

from __future__ import annotations

import urllib.request
from urllib.error import HTTPError

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from llmjp_client import Client
from llmjp_runtime.server.command import SECRET_NAME
from llmjp_runtime.server.process import TritonServer

OVER_HTTP = (
    ("POST", "v2/systemsharedmemory/region/x/register"),
    ("GET", "v2/systemsharedmemory/status"),
    ("GET", "v2/cudasharedmemory/status"),
    ("POST", "v2/repository/index"),
    ("POST", "v2/repository/models/llmjp/unload"),
    ("GET", "v2/models/llmjp/config"),
    ("GET", "v2/models/llmjp/stats"),
    ("GET", "v2/trace/setting"),
    ("POST", "v2/logging"),
)


@pytest.mark.parametrize(("method", "path"), OVER_HTTP)
@pytest.mark.parametrize("headers", [{}, {SECRET_NAME: "guessed"}], ids=["bare", "guessed"])
def test_administration_is_forbidden_over_http(
    server: TritonServer, method: str, path: str, headers: dict[str, str]
) -> None:
    url = f"http://127.0.0.1:{server.endpoints.http_port}/{path}"
    body = b"{}" if method == "POST" else None
    with pytest.raises(HTTPError) as refused:
        urllib.request.urlopen(
            urllib.request.Request(url, body, headers, method=method), timeout=30
        )
    assert refused.value.code == 403
    assert "restricted" in refused.value.read().decode()


@pytest.mark.parametrize(
    ("call", "request_"),
    [
        ("SystemSharedMemoryRegister", pb.SystemSharedMemoryRegisterRequest(name="x", key="/y")),
        ("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest()),
        ("RepositoryIndex", pb.RepositoryIndexRequest()),
        ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="llmjp")),
        ("ModelConfig", pb.ModelConfigRequest(name="llmjp")),
        ("ModelStatistics", pb.ModelStatisticsRequest(name="llmjp")),
        ("TraceSetting", pb.TraceSettingRequest()),
        ("LogSettings", pb.LogSettingsRequest()),
    ],
)
def test_administration_is_refused_over_grpc(
    server: TritonServer, call: str, request_: object
) -> None:
    with grpc.insecure_channel(server.grpc_endpoint) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            getattr(stub, call)(request_, timeout=30)
    assert "restricted" in (refused.value.details() or "")


def test_what_clients_need_answers(server: TritonServer, client: Client) -> None:
    for path in (
        "v2",
        "v2/health/live",
        "v2/health/ready",
        "v2/models/llmjp",
        "v2/models/llmjp/ready",
    ):
        url = f"http://127.0.0.1:{server.endpoints.http_port}/{path}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.status == 200, path
    assert client.is_ready()
    assert client.generate("日本の首都は", max_tokens=2).usage.output_tokens <= 2
    with grpc.insecure_channel(server.grpc_endpoint) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=30).name == "triton"
        assert stub.ModelReady(pb.ModelReadyRequest(name="llmjp"), timeout=30).ready
