"""The synchronous shell: gRPC calls, waiting, and no decisions."""

from __future__ import annotations

import random
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from ._base import PROBE_EVERY_S, PROBE_TIMEOUT_S, BaseClient, ReadyAnswer
from ._batch import CONCURRENCY, BatchResults, ThreadedBatch, list_items
from ._channels import ChannelPool, PooledChannel
from ._errors import LlmJpError, Unsupported
from ._exchange import Exchange, PartialReply
from ._messages import build_conversation
from ._resource import ModelQuery, open_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from os import PathLike
    from typing import Self, Unpack

    from ._base import Metadata
    from ._batch import OnProgress
    from ._resource import ClientSettings
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

    @classmethod
    def from_resource(
        cls,
        name: str,
        namespace: str | None = None,
        *,
        wait: float = 600.0,
        kubeconfig: str | PathLike[str] | None = None,
        context: str | None = None,
        **settings: Unpack[ClientSettings],
    ) -> Self:
        """Wait until an LlmJpModel serves, and return a client for it; outside the cluster as well.

        Needs `pip install 'llmjp-serving[cluster]'`. Outside, the client connects through the API
        server to a ready pod (a port-forward), until it is closed.

        Args:
            name: the LlmJpModel's name.
            namespace: its namespace; without one, that of the credentials.
            wait: seconds to wait for it to serve.
            kubeconfig: a file; without one, $KUBECONFIG, a pod's own credentials or ~/.kube/config.
            context: a context of the kubeconfig.
            settings: as for `Client`.

        Raises:
            ModelNotFound: there is no such LlmJpModel.
            ModelNotServed: it does not serve in time, or cannot before somebody acts; has phase and
                conditions.
            NotPermitted: the API server refuses the credentials, or a right is missing.
            Unsupported: the package `kubernetes` is missing.
        """
        query = ModelQuery(name, namespace, wait, kubeconfig, context)
        return open_client(cls, query, settings)

    def _setup(self) -> None:
        self._channels = ChannelPool(self._open_channel)

    def _open_channel(self) -> PooledChannel:
        channel = (
            grpc.secure_channel(self._endpoint, self._credentials, options=self._channel_options)
            if self._credentials
            else grpc.insecure_channel(self._endpoint, options=self._channel_options)
        )
        return PooledChannel(channel, service_pb2_grpc.GRPCInferenceServiceStub(channel))

    def generate(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Reply:
        """Return the whole reply to a raw prompt, or to its token ids.

        Raises:
            TypeError: the prompt is of another type.
            LlmJpError: the tree is drawn in `llmjp_client`.
        """
        with self._stream(prompt, options, streaming=False) as stream:
            return stream.reply()

    def chat(self, messages: str | Sequence[Message], **options: Unpack[Options]) -> Reply:
        """Return the whole reply to a conversation; a text is one message of the user.

        Example:
            >>> client.chat([{"role": "user", "content": "日本の首都は?"}])  # doctest: +SKIP

        Raises:
            LlmJpError: the tree is drawn in `llmjp_client`.
        """
        with self._stream(build_conversation(messages), options, streaming=False) as stream:
            return stream.reply()

    def batch(
        self,
        prompts: Iterable[Prompt],
        *,
        raw: bool = False,
        concurrency: int = CONCURRENCY,
        on_progress: OnProgress | None = None,
        **options: Unpack[Options],
    ) -> list[Reply | LlmJpError]:
        """Return the replies to many prompts, in their order, a bounded number at a time.

        What fails gives its `LlmJpError` in place of its reply. Ending early (an interrupt, an
        exception of `on_progress`) cancels what runs.

        Args:
            prompts: texts or conversations, as for `chat`.
            raw: prompts are raw texts or token ids, as for `generate`.
            concurrency: requests that run at once; the server's `maxBatchSize` keeps it busy.
            on_progress: called after each result, in the calling thread.
            options: of each request; a request id gets the prompt's number: `ID-1`.

        Example:
            >>> replies = client.batch(["一", "二"], max_tokens=64)  # doctest: +SKIP
            >>> texts = [r.text for r in replies if isinstance(r, Reply)]  # doctest: +SKIP

        Raises:
            TypeError: a prompt of another type, or one prompt instead of a list.
            ValueError: `concurrency` is below 1.
        """
        items = list_items(prompts, options, raw=raw, concurrency=concurrency)
        openers = [
            partial(self._stream, prompt, of_item, streaming=False) for prompt, of_item in items
        ]
        return ThreadedBatch(openers, BatchResults(len(items), on_progress)).run(concurrency)

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> Stream:
        """Return the reply to a prompt, its token ids or a conversation, as it is generated.

        The request is sent on entering the `with`; leaving it cancels an unfinished reply.

        Raises:
            InvalidRequest: an option cannot be sent.
        """
        return self._stream(prompt, options, streaming=True)

    def is_ready(self) -> bool:
        """Return whether the model can be called now.

        Raises:
            LlmJpError: asking again would not help (`NotPermitted`, for example).
        """
        return self._probe(PROBE_TIMEOUT_S) is None

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Return as soon as the model can be called.

        Args:
            timeout: seconds.

        Raises:
            Unavailable: it still cannot after `timeout`; the message says why.
            LlmJpError: waiting would not help (`NotPermitted`, for example).
        """
        expires = time.monotonic() + timeout
        while reason := self._probe(min(PROBE_TIMEOUT_S, max(expires - time.monotonic(), 0.01))):
            if time.monotonic() + PROBE_EVERY_S >= expires:
                raise self._build_timeout(reason, timeout)
            time.sleep(PROBE_EVERY_S)

    def close(self) -> None:
        """Cancel running calls and disconnect; later calls raise RuntimeError. Idempotent."""
        for pooled in self._channels.take_all():
            pooled.channel.close()
        self._close_port_forward()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _probe(self, timeout_s: float) -> str | None:
        try:
            return self._explain_not_ready(self._ask_model(timeout_s))
        except Unsupported:  # by an older server, or a model that is not ours
            return self._explain_not_ready(self._ask_triton(timeout_s))

    def _ask_model(self, timeout_s: float) -> ReadyAnswer:
        metadata, request = self._build_metadata(), self._build_ready_request()
        call = self._call(self._channels.current, request, timeout_s, metadata)
        try:
            return next(call, None)
        except grpc.RpcError as error:
            return error
        finally:
            call.cancel()

    def _ask_triton(self, timeout_s: float) -> ReadyAnswer:
        request = pb.ModelReadyRequest(name=self._model)
        try:
            stub = self._channels.current.stub
            answer: ReadyAnswer = stub.ModelReady(
                request, timeout=timeout_s, metadata=self._build_metadata()
            )
        except grpc.RpcError as error:
            answer = error
        return answer

    def _stream(self, prompt: Prompt, options: Options, *, streaming: bool) -> Stream:
        exchange = self._begin_exchange(prompt, options, streaming=streaming)
        metadata = partial(self._build_metadata, options.get("metadata"))
        return Stream(self._call, self._channels, exchange, metadata)

    def _call(
        self,
        pooled: PooledChannel,
        request: pb.ModelInferRequest,
        timeout_s: float | None,
        metadata: Metadata,
    ) -> Any:
        return pooled.stub.ModelStreamInfer(iter([request]), timeout=timeout_s, metadata=metadata)


class Stream(PartialReply):
    """A reply as it is generated: an iterator of `Chunk` inside a `with`. For one thread.

    Example:
        >>> with client.stream("自然言語処理とは") as stream:  # doctest: +SKIP
        ...     for chunk in stream:
        ...         print(chunk.text, end="", flush=True)
        ...     print(stream.reply().usage)
    """

    def __init__(
        self,
        call: Callable[..., Any],
        channels: ChannelPool,
        exchange: Exchange,
        build_metadata: Callable[[], Metadata],
    ) -> None:
        super().__init__(exchange)
        self._build_metadata = build_metadata
        self._cancelled = threading.Event()
        self._start = call
        self._channels = channels
        self._channel: PooledChannel | None = None
        self._call: Any = None

    def reply(self) -> Reply:
        """Wait for the rest of the reply, and return the whole.

        Raises:
            LlmJpError: the tree is drawn in `llmjp_client`.
        """
        for _ in self:
            pass
        return self._exchange.build_reply()

    def cancel(self) -> None:
        """Stop the reply; its slot at the server becomes free. Any thread may call this."""
        self._exchange.cancelled = True
        self._cancelled.set()
        if self._call is not None:
            self._call.cancel()

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.cancel()
        pooled, self._channel = self._channel, None
        self._release(pooled)

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
                    self._cancelled.wait(delay)
                    self._open()
        raise StopIteration

    def _open(self) -> None:
        if self._call is not None:
            self._call.cancel()
        metadata = self._build_metadata()  # may raise: no channel is taken yet
        before, self._channel = self._channel, self._channels.acquire(instead_of=self._channel)
        self._release(before)
        request, timeout_s = self._exchange.start_attempt(time.monotonic())
        self._call = self._start(self._channel, request, timeout_s, metadata)
        if self._exchange.cancelled:
            self._call.cancel()

    def _release(self, pooled: PooledChannel | None) -> None:
        """Give the channel of an ended call back; close it if nobody needs it any more."""
        if pooled is not None and (done := self._channels.release(pooled)) is not None:
            done.channel.close()
