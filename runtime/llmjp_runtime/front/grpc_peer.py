"""Another model of this server, called through the server's own gRPC endpoint.

Triton's calls from model to model (`InferenceRequest.exec`) crash or hang the calling process where
several run at once (2.51; docs/decisions/0004), and pass no cancellation on. gRPC is the way
that clients take, and cancelling a call ends the inner request as well.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import (
    deserialize_bytes_tensor,
    np_to_triton_dtype,
    serialize_byte_tensor,
    triton_to_np_dtype,
)

from llmjp_runtime.front.direct_http import open_direct

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Self

    from numpy.typing import NDArray

    from llmjp_runtime.settings import ServingSettings

READY_S: Final = 2.0
"""How long the server may take to say whether a model is ready."""
CONNECT_S: Final = 5.0
"""How long it may take to show its certificate."""
OPTIONS: Final[dict[str, int | str]] = {
    "grpc.max_receive_message_length": 64 << 20,
    "grpc.max_send_message_length": 64 << 20,
    "grpc.use_local_subchannel_pool": 1,
    "grpc.enable_http_proxy": 0,
    "grpc.initial_reconnect_backoff_ms": 100,
}
_PREFIX: Final = re.compile(r"^\[request id: [^]]*] ")


class CallFailed(Exception):
    """The model answered with an error, or nobody answered; the message is passed on."""


class PeerModel:
    """A model of this server. Thread-safe; connects at the first call."""

    def __init__(self, name: str, settings: ServingSettings) -> None:
        """Prepare the calls; the model may load later than its caller.

        The certificate is read now: the server read it a moment ago and shows that one for as long
        as it runs, whatever the file holds by the time of the first call.
        """
        self._name = name
        self._address = settings.triton_grpc
        certificate = settings.tls_certificate
        self._certificate = (
            None if certificate is None else certificate.read_text("ascii", "ignore")
        )
        self._url = f"http://{settings.triton_http}/v2/models/{name}/ready"
        self._lock = threading.Lock()
        self._stub: Any = None

    def is_ready(self) -> bool:
        """Return whether it takes requests, over HTTP, which starts when all models are loaded."""
        try:
            with open_direct(self._url, READY_S) as response:
                return bool(response.status == HTTPStatus.OK)
        except OSError:
            return False

    def infer(
        self,
        tensors: Mapping[str, NDArray[np.generic]],
        request_id: str,
        output_names: Sequence[str] = (),
        /,
        *,
        timeout_us: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> Call:
        """Return the responses to one request as they come; block between them.

        Args:
            tensors: the inputs.
            request_id: as the model will see it.
            output_names: what to return; none means all.
            timeout_us: the request parameter; 0 means none.
            headers: of the client's request, passed on as parameters.
        """
        request = pb.ModelInferRequest(model_name=self._name, id=request_id)
        if timeout_us:
            request.parameters["timeout"].int64_param = timeout_us
        for name, value in (headers or {}).items():
            request.parameters[name].string_param = value
        for name, array in tensors.items():
            _add_input(request, name, array)
        for name in output_names:
            request.outputs.add(name=name)
        return Call(self._connect().ModelStreamInfer(iter([request])))

    def _connect(self) -> Any:
        with self._lock:
            if self._stub is None:
                self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._open_channel())
            return self._stub

    def _open_channel(self) -> Any:
        options: list[tuple[str, int | str]] = list(OPTIONS.items())
        if self._certificate is None:
            return grpc.insecure_channel(self._address, options=options)
        name = read_certificate_name(self._address, self._certificate)
        options.append(("grpc.ssl_target_name_override", name))
        trusted = grpc.ssl_channel_credentials(self._certificate.encode())
        return grpc.secure_channel(self._address, trusted, options=options)


class Call:
    """One request under way: an iterator of its responses' outputs."""

    def __init__(self, stream: Any) -> None:
        """Take over gRPC's call."""
        self._stream = stream

    def cancel(self) -> None:
        """End the request, here and in the model. Any thread may call this."""
        self._stream.cancel()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, NDArray[Any]]:
        """Return the outputs of the next response.

        Raises:
            CallFailed: the model answered with an error, perhaps after some responses.
        """
        try:
            response = next(self._stream, None)
        except grpc.RpcError as exc:
            raise CallFailed(str(exc.details() or exc.code())) from exc
        if response is None:
            raise StopIteration
        if response.error_message:
            raise CallFailed(_PREFIX.sub("", response.error_message))
        return dict(_decode_outputs(response.infer_response))


def read_certificate_name(address: str, certificate: str) -> str:
    """Return a name that the server's certificate is for, to call it by a loopback address.

    Args:
        address: the server's `host:port`.
        certificate: in PEM form; those that signed it may follow.

    Raises:
        OSError: the server shows another certificate, or none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=certificate)
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=CONNECT_S) as connection,
        context.wrap_socket(connection) as encrypted,
    ):
        shown: Any = encrypted.getpeercert() or {}
    names = [value for _, value in shown.get("subjectAltName", ())]
    common = [v for pairs in shown.get("subject", ()) for k, v in pairs if k == "commonName"]
    return next((name.replace("*", "any", 1) for name in (*names, *common)), host)


def _add_input(request: Any, name: str, array: NDArray[np.generic]) -> None:
    kind = np_to_triton_dtype(array.dtype)
    request.inputs.add(name=name, datatype=kind, shape=list(array.shape))
    if kind == "BYTES":
        packed = serialize_byte_tensor(array)
        raw = packed.item() if packed.size else b""
    else:
        raw = np.ascontiguousarray(array).tobytes()
    request.raw_input_contents.append(raw)


def _decode_outputs(response: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        shape = tuple(output.shape)
        if output.datatype == "BYTES":
            yield output.name, deserialize_bytes_tensor(raw).reshape(shape)
        else:
            kind = triton_to_np_dtype(output.datatype)
            yield output.name, np.frombuffer(raw, dtype=kind).reshape(shape)
