"""The synchronous shell: gRPC calls, waiting, and no decisions."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from ._base import PROBE_EVERY_S, PROBE_TIMEOUT_S, BaseClient
from ._channels import Line, Lines
from ._errors import LlmJpError
from ._exchange import Exchange, Progress
from ._resource import Wanted, nothing, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike
    from typing import Self, Unpack

    from ._resource import Settings
    from ._types import Chunk, Message, Options, Prompt, Reply


class Client(BaseClient):
    """Talks to one endpoint; may be shared by threads. Close it, or use it in a `with`.

    Example:
        >>> with Client("localhost:8001") as client:  # doctest: +SKIP
        ...     client.wait_until_ready(timeout=60)
        ...     with client.stream("自然言語処理とは", max_tokens=64) as stream:
        ...         for chunk in stream:
        ...             print(chunk.text, end="", flush=True)
    """

    _release: Callable[[], object] = staticmethod(nothing)
    """Ends what a connection from `from_resource` leads through."""

    @classmethod
    def from_resource(
        cls,
        name: str,
        namespace: str | None = None,
        *,
        wait: float = 600.0,
        kubeconfig: str | PathLike[str] | None = None,
        context: str | None = None,
        **settings: Unpack[Settings],
    ) -> Self:
        """A client for an LlmJpModel, once it serves; from outside the cluster as well.

        Needs `pip install 'llmjp-serving[cluster]'`. Outside, connections lead through the API
        server to a ready pod (a port-forward), for as long as the client is open.

        Args:
            name: of the LlmJpModel.
            namespace: its namespace; that of the credentials where it is left out.
            wait: seconds to wait for it to serve.
            kubeconfig: a file; $KUBECONFIG, a pod's own credentials or ~/.kube/config without one.
            context: of the kubeconfig.
            settings: as for `Client`.

        Raises:
            ModelNotFound: there is no such LlmJpModel.
            Unavailable: it does not serve in time, or waiting is in vain; says phase and reasons.
            NotPermitted: the API server refuses.
            Unsupported: the package `kubernetes` is missing.
        """
        wanted = Wanted(name, namespace, wait, kubeconfig, context)
        return opened(cls, wanted, settings)

    def _setup(self) -> None:
        self._lines = Lines(self._line)

    def _line(self) -> Line:
        channel = (
            grpc.secure_channel(self._endpoint, self._credentials, options=self._channel_options)
            if self._credentials
            else grpc.insecure_channel(self._endpoint, options=self._channel_options)
        )
        return Line(channel, service_pb2_grpc.GRPCInferenceServiceStub(channel))

    def generate(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Reply:
        """The whole reply to a raw prompt, or to its token ids.

        Raises:
            LlmJpError: the tree is drawn in `llmjp_client`.
        """
        with self._stream(prompt, options, streaming=False) as stream:
            return stream.reply()

    def chat(self, messages: Sequence[Message], **options: Unpack[Options]) -> Reply:
        """The whole reply to a conversation.

        Example:
            >>> client.chat([{"role": "user", "content": "日本の首都は?"}])  # doctest: +SKIP

        Raises:
            LlmJpError: the tree is drawn in `llmjp_client`.
        """
        with self._stream(messages, options, streaming=False) as stream:
            return stream.reply()

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> Stream:
        """A reply to a prompt, its token ids or a conversation, as it is generated.

        The request is sent on entering the `with`; leaving it cancels what is not finished.

        Raises:
            InvalidRequest: an option cannot be sent.
        """
        return self._stream(prompt, options, streaming=True)

    def is_ready(self) -> bool:
        """Whether the model can be called now.

        Raises:
            LlmJpError: asking again would not help (such as NotPermitted).
        """
        return self._probe(PROBE_TIMEOUT_S) is None

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Return as soon as the model can be called.

        Args:
            timeout: seconds.

        Raises:
            Unavailable: it cannot after `timeout`; the message says what was missing last.
            LlmJpError: waiting would not help (such as NotPermitted).
        """
        expires = time.monotonic() + timeout
        while reason := self._probe(min(PROBE_TIMEOUT_S, max(expires - time.monotonic(), 0.01))):
            if time.monotonic() + PROBE_EVERY_S >= expires:
                raise self._never_ready(reason, timeout)
            time.sleep(PROBE_EVERY_S)

    def close(self) -> None:
        """Cancel what runs and disconnect. Idempotent."""
        for line in self._lines.all():
            line.channel.close()
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _probe(self, timeout_s: float) -> str | None:
        request = pb.ModelReadyRequest(name=self._model)
        try:
            stub = self._lines.current.stub
            answer = stub.ModelReady(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            answer = error
        return self._unready(answer)

    def _stream(self, prompt: Prompt, options: Options, *, streaming: bool) -> Stream:
        exchange = self._exchange(prompt, options, streaming=streaming)
        return Stream(self._call, self._lines, exchange)

    def _call(self, line: Line, request: pb.ModelInferRequest, timeout_s: float | None) -> Any:
        return line.stub.ModelStreamInfer(
            iter([request]), timeout=timeout_s, metadata=self._metadata
        )


class Stream(Progress):
    """A reply as it is generated: an iterator of `Chunk` inside a `with`. For one thread.

    Example:
        >>> with client.stream("自然言語処理とは") as stream:  # doctest: +SKIP
        ...     for chunk in stream:
        ...         print(chunk.text, end="", flush=True)
        ...     print(stream.reply().usage)
    """

    def __init__(self, call: Callable[..., Any], lines: Lines, exchange: Exchange) -> None:
        super().__init__(exchange)
        self._start = call
        self._lines = lines
        self._line: Line | None = None
        self._call: Any = None

    def reply(self) -> Reply:
        """The whole reply, after waiting for what is missing.

        Raises:
            LlmJpError: the tree is drawn in `llmjp_client`.
        """
        for _ in self:
            pass
        return self._exchange.reply()

    def cancel(self) -> None:
        """Stop the reply; its slot at the server becomes free. Any thread may call this."""
        self._exchange.cancelled = True
        if self._call is not None:
            self._call.cancel()

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.cancel()
        line, self._line = self._line, None
        self._hang_up(line)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Chunk:
        if self._call is None:
            raise RuntimeError("a stream is read inside its `with`, which also ends it")
        while not self._exchange.ended:
            try:
                if chunk := self._exchange.receive(next(self._call, None)):
                    return chunk
            except (grpc.RpcError, LlmJpError) as error:
                delay = self._exchange.recover(error, now=time.monotonic(), chance=random.random())
                if delay is not None:
                    time.sleep(delay)
                    self._open()
        raise StopIteration

    def _open(self) -> None:
        if self._call is not None:
            self._call.cancel()
        before, self._line = self._line, self._lines.take(instead_of=self._line)
        self._hang_up(before)
        self._call = self._start(self._line, *self._exchange.attempt(time.monotonic()))
        if self._exchange.cancelled:
            self._call.cancel()

    def _hang_up(self, line: Line | None) -> None:
        """The call over it has ended; the line goes if nobody needs it any more."""
        if line is not None and (done := self._lines.give(line)) is not None:
            done.channel.close()
