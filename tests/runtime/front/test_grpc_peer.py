"""Calls to another model over gRPC, against a server in this process that answers by a script."""

from __future__ import annotations

import itertools
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import serialize_byte_tensor

from llmjp_runtime.front.grpc_peer import Call, CallFailed, PeerModel
from llmjp_runtime.settings import ServingSettings
from tests.support.certificate import Certificate, self_signed

AT_ONCE = 32
LEFT = 3
"""Every so many'th stream is left half-way."""
PATIENCE_S = 30.0
Script = Callable[[Any, Any], Iterator[Any]]
"""Responses to a request; the second argument is gRPC's context."""


class Scripted(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """One script for every request."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def ModelStreamInfer(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: N802
        for request in requests:
            yield from self._script(request, context)


@contextmanager
def answering(script: Script, certificate: Certificate | None = None) -> Iterator[str]:
    """A server's address."""
    server = grpc.server(ThreadPoolExecutor(2 * AT_ONCE))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Scripted(script), server)
    if certificate is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        pair = (certificate.key.read_bytes(), certificate.certificate.read_bytes())
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def neighbour(address: str, certificate: Path | None = None) -> PeerModel:
    settings = ServingSettings(
        artefact=Path("/unused"), triton_grpc=address, tls_certificate=certificate
    )
    return PeerModel("model", settings)


def reply(**tensors: Any) -> Any:
    """A response with these outputs."""
    response = pb.ModelInferResponse()
    for name, array in tensors.items():
        text = array.dtype == np.object_
        kind = "BYTES" if text else "INT32"
        response.outputs.add(name=name, datatype=kind, shape=array.shape)
        raw = serialize_byte_tensor(array).item() if text and array.size else array.tobytes()
        response.raw_output_contents.append(b"" if text and not array.size else raw)
    return pb.ModelStreamInferResponse(infer_response=response)


def numbers(count: int) -> Script:
    """So many responses, numbered, that name the request as well."""

    def script(request: Any, _: Any) -> Iterator[Any]:
        for number in range(count):
            yield reply(number=np.array([int(request.id), number], np.int32))

    return script


def pairs(call: Call) -> Iterator[tuple[int, ...]]:
    for outputs in call:
        yield tuple(outputs["number"].tolist())


def test_a_request_carries_everything() -> None:
    seen = []

    def script(request: Any, _: Any) -> Iterator[Any]:
        seen.append(request)
        yield reply()

    tensors = {
        "text": np.array([["日本".encode()]], np.object_),
        "none": np.zeros((1, 0), np.object_),
        "ids": np.array([[1, 2]], np.int32)[:, ::-1],
        "flag": np.array([[True]]),
    }
    with answering(script) as address:
        assert list(neighbour(address).infer(tensors, "7", ("number",), timeout_us=9)) == [{}]
    (request,) = seen
    assert (request.model_name, request.id) == ("model", "7")
    assert request.parameters["timeout"].int64_param == 9
    assert [output.name for output in request.outputs] == ["number"]
    assert [(i.name, i.datatype, list(i.shape)) for i in request.inputs] == [
        ("text", "BYTES", [1, 1]),
        ("none", "BYTES", [1, 0]),
        ("ids", "INT32", [1, 2]),
        ("flag", "BOOL", [1, 1]),
    ]
    assert list(request.raw_input_contents) == [
        b"\x06\0\0\0" + "日本".encode(),
        b"",
        np.array([2, 1], np.int32).tobytes(),
        b"\1",
    ]


def test_outputs_are_arrays() -> None:
    texts = np.array([["東京".encode(), b""]], np.object_)
    with answering(lambda *_: iter([reply(a=texts, b=np.zeros((1, 0), np.int32))])) as address:
        (outputs,) = neighbour(address).infer({}, "1")
    assert outputs["a"].tolist() == [["東京".encode(), b""]]
    assert outputs["b"].shape == (1, 0)
    assert outputs["b"].dtype == np.int32


@pytest.mark.parametrize("message", ["[internal] broken", "[request id: 5] [internal] broken"])
def test_an_error_has_the_models_own_words(message: str) -> None:
    def script(request: Any, context: Any) -> Iterator[Any]:
        yield from numbers(1)(request, context)
        yield pb.ModelStreamInferResponse(error_message=message)

    with answering(script) as address:
        call = neighbour(address).infer({}, "5")
        assert next(call)["number"].tolist() == [5, 0]
        with pytest.raises(CallFailed) as caught:
            next(call)
    assert str(caught.value) == "[internal] broken"


def test_nobody_there_is_a_failed_call_and_not_ready() -> None:
    with answering(numbers(1)) as address:
        pass
    model = neighbour(address)
    with pytest.raises(CallFailed, match="refused"):
        next(model.infer({}, "1"))
    assert not model.is_ready()


def test_cancelling_ends_a_call_that_waits_on_both_sides() -> None:
    left = threading.Event()

    def script(request: Any, context: Any) -> Iterator[Any]:
        context.add_callback(left.set)
        yield from numbers(1)(request, context)
        left.wait(PATIENCE_S)

    with answering(script) as address:
        call = neighbour(address).infer({}, "1")
        next(call)
        threading.Timer(0.1, call.cancel).start()
        with pytest.raises(CallFailed):
            next(call)
        assert left.wait(PATIENCE_S)


def test_many_calls_at_once_keep_their_order_and_nobody_elses() -> None:
    with answering(numbers(40)) as address, ThreadPoolExecutor(AT_ONCE) as pool:
        model = neighbour(address)

        def one(name: int) -> list[tuple[int, ...]]:
            call = model.infer({}, str(name))
            if name % LEFT:
                return list(pairs(call))
            begun = list(itertools.islice(pairs(call), 5))
            call.cancel()
            return begun

        for _ in range(5):
            for name, found in enumerate(pool.map(one, range(AT_ONCE))):
                count = 40 if name % LEFT else 5
                assert found == [(name, number) for number in range(count)]


def signed(folder: Path, name: str = "localhost") -> Certificate:
    """A certificate that an authority signed, as a cluster's issuer makes it; without that one."""
    authority = self_signed(folder / "authority", "authority")
    leaf = self_signed(folder, name)
    request = subprocess.run(
        ["openssl", "x509", "-x509toreq", "-in", leaf.certificate, "-signkey", leaf.key],
        check=True, capture_output=True,
    )  # fmt: skip
    extensions = folder / "extensions"
    extensions.write_text(f"subjectAltName=DNS:{name}\nbasicConstraints=CA:FALSE\n")
    subprocess.run(
        ["openssl", "x509", "-req", "-days", "2", "-CA", authority.certificate, "-CAkey",
         authority.key, "-CAcreateserial", "-extfile", extensions, "-out", leaf.certificate],
        check=True, capture_output=True, input=request.stdout,
    )  # fmt: skip
    return leaf


@pytest.mark.parametrize("name", ["llmjp.example", "*.llmjp.example"])
@pytest.mark.parametrize("make", [self_signed, signed])
def test_an_encrypted_server_is_reached_by_a_name_of_its_own(
    tmp_path: Path, make: Callable[[Path, str], Certificate], name: str
) -> None:
    """One that another authority signed is trusted as it is: a server need not name that."""
    certificate = make(tmp_path, name)
    with answering(numbers(1), certificate) as address:
        model = neighbour(address, certificate.certificate)
        assert list(pairs(model.infer({}, "3"))) == [(3, 0)]


def test_a_certificate_that_is_renewed_on_disk_changes_nothing(tmp_path: Path) -> None:
    """The server goes on to show the one it read at its start."""
    certificate = self_signed(tmp_path / "old")
    with answering(numbers(1), certificate) as address:
        model = neighbour(address, certificate.certificate)
        self_signed(tmp_path / "new").certificate.replace(certificate.certificate)
        assert list(pairs(model.infer({}, "3"))) == [(3, 0)]


def test_another_server_is_not_trusted(tmp_path: Path) -> None:
    own, other = self_signed(tmp_path / "own"), self_signed(tmp_path / "other")
    with answering(numbers(1), other) as address, pytest.raises(OSError, match="certificate"):
        neighbour(address, own.certificate).infer({}, "3")
