"""A fake llmjp server for tests: a real gRPC server in this process that answers by a script.

Example, with pytest:

    import pytest
    from llmjp_client import Client
    from llmjp_client.testing import FakeServer

    @pytest.fixture
    def server():
        with FakeServer(["東京", "です"]) as server:
            yield server

    def test_my_bot_asks_for_short_answers(server):
        with Client(server.endpoint) as client:
            assert my_bot(client, "日本の首都は?") == "東京です"
        assert server.requests[0].options["max_tokens"] == 64

A script may be a function of the request. It runs in a thread of the server, so it can wait for an
event to hold a reply back, and it fails by raising:

    def script(request):
        yield "途中"
        go_on.wait(timeout=10)
        raise InBandError("[internal] out of memory")
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from ._messages import READY, TENSORS
from ._tensors import Datatype, Value, pack, unpack
from ._types import Chunk, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Self

__all__ = ["FakeRequest", "FakeServer", "InBandError", "Script", "StatusError"]


class InBandError(Exception):
    """Raised by a script: the stream goes on to its end, but carries this message.

    Models of this project write `[code] reason`, where code is a gRPC status in small letters.
    """


class StatusError(Exception):
    """Raised by a script: the call ends with this status."""

    def __init__(self, code: grpc.StatusCode, details: str = "") -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details


@dataclass(frozen=True, slots=True)
class FakeRequest:
    """A request as the server received it."""

    request_id: str
    model: str
    prompt: str | tuple[int, ...] | tuple[dict[str, str], ...]
    """Text, token ids or messages."""
    options: Mapping[str, Any]
    """What was set, by the names of `llmjp_client.Options`."""
    streaming: bool
    timeout_us: int | None
    """The request parameter `timeout`."""
    metadata: Mapping[str, str]
    cancelled: threading.Event = field(default_factory=threading.Event, compare=False)
    """Set when the client (or `FakeServer.stop`) ended the call before the reply was whole."""


Script: TypeAlias = Iterable[str | Chunk] | Callable[[FakeRequest], Iterable[str | Chunk]]
"""Pieces of every reply, or a function that returns them for one request."""


class FakeServer:
    """A server that runs for the length of its `with` block.

    A reply ends with `finish_reason` stop, unless a `Chunk` of the script says otherwise. Tokens
    are counted as ids or else pieces (output), and as characters, ids or messages (input). A
    request that is not streamed gets all pieces in one response, as from a real model.
    """

    def __init__(
        self,
        script: Script = ("これは", "テストです。"),
        *,
        ready: bool | Callable[[], bool] = True,
        separate_final: bool = False,
        port: int = 0,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        """Start listening on this machine only.

        Args:
            script: what to answer.
            ready: the answer to readiness probes, or a function called by each (which may raise
                StatusError).
            separate_final: mark the end by an empty response, as Triton does for models that only
                notice the end after their last piece.
            port: 0 for a free one.
            credentials: to serve over TLS.
        """
        self.requests: list[FakeRequest] = []
        """Every request so far, retried ones once per attempt."""
        self.cancelled = threading.Event()
        """Set when a call ended before its reply was whole."""
        self._script = script
        self._ready = ready
        self._separate_final = separate_final
        self._server = grpc.server(
            # A call holds its thread while its script runs; fewer threads would make calls wait.
            ThreadPoolExecutor(max_workers=256, thread_name_prefix="fake-llmjp"),
            # Two servers on one port would share its connections.
            options=[("grpc.so_reuseport", 0)],
        )
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Service(self), self._server)
        self._port = self._listen(f"localhost:{port}", credentials)
        self._server.start()

    def _listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        if credentials:
            return int(self._server.add_secure_port(address, credentials))
        return int(self._server.add_insecure_port(address))

    @property
    def endpoint(self) -> str:
        """`host:port`, for `Client`."""
        return f"localhost:{self._port}"

    def stop(self) -> None:
        """Break every call and connection; returns when the port is closed. Idempotent."""
        self._server.stop(grace=None).wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def is_ready(self) -> bool:
        """Return the answer to a readiness probe."""
        return self._ready() if callable(self._ready) else self._ready

    def answer(self, request: FakeRequest) -> Iterator[pb.ModelStreamInferResponse]:
        """Yield the responses to one request, in order.

        Raises:
            StatusError: from the script.
        """
        script = self._script(request) if callable(self._script) else self._script
        sent: list[Chunk] = []
        try:
            for piece in script:
                chunk = Chunk(text=piece) if isinstance(piece, str) else piece
                sent.append(chunk)
                # The end of the reply is sent below, marked as such.
                if request.streaming and not chunk.finish_reason:
                    yield _build_response(request, chunk)
        except InBandError as error:
            yield pb.ModelStreamInferResponse(error_message=str(error))
            yield _build_response(request, final=True)
            return
        yield _build_response(
            request,
            _build_last_chunk(sent, request),
            usage=_count_usage(sent, request),
            final=not self._separate_final,
        )
        if self._separate_final:
            yield _build_response(request, final=True)


class _Service(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """The part of KServe v2 that the client uses."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server

    def ServerReady(self, request: Any, context: Any) -> pb.ServerReadyResponse:  # noqa: ARG002, N802
        return pb.ServerReadyResponse(ready=self._ready(context))

    def ModelReady(self, request: Any, context: Any) -> pb.ModelReadyResponse:  # noqa: ARG002, N802
        return pb.ModelReadyResponse(ready=self._ready(context))

    def ModelStreamInfer(  # noqa: N802
        self, request_iterator: Iterator[pb.ModelInferRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ModelStreamInferResponse]:
        for message in request_iterator:
            if any(tensor.name == READY.name for tensor in message.inputs):
                yield self._answer_ready(context)
                continue
            request = _parse_request(message, dict(context.invocation_metadata()))
            self._server.requests.append(request)
            whole = threading.Event()
            context.add_callback(
                lambda request=request, whole=whole: self._note_end(request, whole)
            )
            try:
                for response in self._server.answer(request):
                    if response.infer_response.parameters["triton_final_response"].bool_param:
                        whole.set()
                    yield response
            except StatusError as error:
                whole.set()
                context.abort(error.code, error.details)

    def _answer_ready(self, context: grpc.ServicerContext) -> pb.ModelStreamInferResponse:
        if self._ready(context):
            return pb.ModelStreamInferResponse()
        return pb.ModelStreamInferResponse(error_message="[unavailable] it was told not to be")

    def _ready(self, context: grpc.ServicerContext) -> bool:
        try:
            return self._server.is_ready()
        except StatusError as error:
            context.abort(error.code, error.details)
            raise

    def _note_end(self, request: FakeRequest, whole: threading.Event) -> None:
        if not whole.is_set():
            request.cancelled.set()
            self._server.cancelled.set()


_OPTIONS: Final = {tensor.name: option for option, tensor in TENSORS.items()}


def _parse_request(message: pb.ModelInferRequest, metadata: Mapping[str, str]) -> FakeRequest:
    tensors = {
        tensor.name: unpack(tensor.datatype, raw)
        for tensor, raw in zip(message.inputs, message.raw_input_contents, strict=True)
    }
    lists = {"stop_words", "bad_words"}
    return FakeRequest(
        request_id=message.id,
        model=message.model_name,
        prompt=_parse_prompt(tensors),
        options={
            _OPTIONS[name]: values if name in lists else values[0]
            for name, values in tensors.items()
            if name in _OPTIONS
        },
        streaming=bool(tensors["stream"][0]),
        timeout_us=message.parameters["timeout"].int64_param
        if "timeout" in message.parameters
        else None,
        metadata=metadata,
    )


def _parse_prompt(tensors: Mapping[str, list[Value]]) -> str | tuple[int, ...] | tuple[Any, ...]:
    if "messages" in tensors:
        return tuple(json.loads(str(tensors["messages"][0])))
    if "input_ids" in tensors:
        return tuple(int(i) for i in tensors["input_ids"])
    return str(tensors["text_input"][0])


def _build_last_chunk(sent: list[Chunk], request: FakeRequest) -> Chunk:
    """Return the chunk that ends the reply: nothing new, or all of it if it is not streamed."""
    reason = next((c.finish_reason for c in sent if c.finish_reason), "stop")
    news = [c for c in sent if c.finish_reason] if request.streaming else sent
    return Chunk(
        text="".join(c.text for c in news),
        output_ids=tuple(i for c in news for i in c.output_ids),
        log_probs=tuple(p for c in news for p in c.log_probs),
        warnings=tuple(w for c in news for w in c.warnings),
        finish_reason=reason,
    )


def _count_usage(sent: list[Chunk], request: FakeRequest) -> Usage:
    ids = sum(len(chunk.output_ids) for chunk in sent)
    return Usage(input_tokens=len(request.prompt), output_tokens=ids or len(sent))


def _build_response(
    request: FakeRequest,
    chunk: Chunk | None = None,
    *,
    usage: Usage | None = None,
    final: bool = False,
) -> pb.ModelStreamInferResponse:
    response = pb.ModelStreamInferResponse()
    body = response.infer_response
    body.model_name, body.id = request.model, request.request_id
    body.parameters["triton_final_response"].bool_param = final
    if chunk:
        _add_output(body, "text_output", "BYTES", [chunk.text])
        _add_output(body, "output_ids", "INT32", chunk.output_ids)
        _add_output(body, "finish_reason", "BYTES", [chunk.finish_reason or ""])
        if chunk.log_probs:
            _add_output(body, "output_log_probs", "FP32", chunk.log_probs)
        if chunk.warnings:
            _add_output(body, "warnings", "BYTES", chunk.warnings)
    if usage:
        _add_output(body, "num_input_tokens", "INT32", [usage.input_tokens])
        _add_output(body, "num_output_tokens", "INT32", [usage.output_tokens])
    return response


def _add_output(
    body: pb.ModelInferResponse, name: str, datatype: Datatype, values: Sequence[Value]
) -> None:
    body.outputs.add(name=name, datatype=datatype, shape=[1, len(values)])
    body.raw_output_contents.append(pack(datatype, values))
