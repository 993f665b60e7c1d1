"""The asynchronous shell: gRPC calls, waiting, and no decisions."""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from ._base import PROBE_EVERY_S, PROBE_TIMEOUT_S, BaseClient, ReadyAnswer
from ._batch import CONCURRENCY, BatchResults, list_items, run_batch_async
from ._channels import ChannelPool, PooledChannel, do_nothing
from ._errors import Cancelled, LlmJpError, Unsupported
from ._exchange import Exchange, PartialReply
from ._messages import build_conversation
from ._resource import ModelQuery, open_client_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from os import PathLike
    from typing import Self, Unpack

    from ._base import Metadata
    from ._batch import OnProgress
    from ._resource import ClientSettings
    from ._types import Chunk, Message, Options, Prompt, Reply


class AsyncClient(BaseClient):
    """`Client` for asyncio; belongs to the event loop of its first call.

    Example:
        >>> async with AsyncClient("localhost:8001") as client:  # doctest: +SKIP
        ...     await client.wait_until_ready(timeout=60)
        ...     async with client.stream("自然言語処理とは", max_tokens=64) as stream:
        ...         async for chunk in stream:
        ...             print(chunk.text, end="", flush=True)
    """

    @classmethod
    async def from_resource(
        cls,
        name: str,
        namespace: str | None = None,
        *,
        wait: float = 600.0,
        kubeconfig: str | PathLike[str] | None = None,
        context: str | None = None,
        **settings: Unpack[ClientSettings],
    ) -> Self:
        """Return a client for an LlmJpModel, once it serves; as `Client.from_resource`.

        Example:
            >>> client = await AsyncClient.from_resource("llmjp-172b")  # doctest: +SKIP

        Raises:
            ModelNotFound: there is no such LlmJpModel.
            ModelNotServed: it does not serve in time, or cannot before somebody acts; has phase and
                conditions.
            NotPermitted: the API server refuses the credentials, or a right is missing.
            Unsupported: the package `kubernetes` is missing.
        """
        query = ModelQuery(name, namespace, wait, kubeconfig, context)
        return await open_client_async(cls, query, settings)

    def _setup(self) -> None:
        self._channels = ChannelPool(self._open_channel, check_caller=self._check_loop)
        self._loop: asyncio.AbstractEventLoop | None = None

    def _check_loop(self) -> None:
        """Note the event loop of the first call; refuse any other.

        Raises:
            RuntimeError: the client belongs to another event loop.
        """
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise RuntimeError(
                "this AsyncClient belongs to the event loop of its first call: make one in each "
                "event loop, or use Client, which threads may share"
            )

    async def generate(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Reply:
        """Return the whole reply to a raw prompt, or to its token ids.

        Raises:
            TypeError: the prompt is of another type.
            LlmJpError: the tree is drawn in `llmjp_client`.
        """
        async with self._stream(prompt, options, streaming=False) as stream:
            return await stream.reply()

    async def chat(self, messages: str | Sequence[Message], **options: Unpack[Options]) -> Reply:
        """Return the whole reply to a conversation; a text is one message of the user.

        Raises:
            LlmJpError: the tree is drawn in `llmjp_client`.
        """
        async with self._stream(build_conversation(messages), options, streaming=False) as stream:
            return await stream.reply()

    async def batch(
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
            on_progress: called after each result, in the event loop.
            options: of each request; a request id gets the prompt's number: `ID-1`.

        Example:
            >>> replies = await client.batch(["一", "二"], max_tokens=64)  # doctest: +SKIP
            >>> texts = [r.text for r in replies if isinstance(r, Reply)]  # doctest: +SKIP

        Raises:
            TypeError: a prompt of another type, or one prompt instead of a list.
            ValueError: `concurrency` is below 1.
        """
        items = list_items(prompts, options, raw=raw, concurrency=concurrency)
        asks = [partial(self._ask, prompt, of_item) for prompt, of_item in items]
        return await run_batch_async(asks, BatchResults(len(items), on_progress), concurrency)

    async def _ask(self, prompt: Prompt, options: Options) -> Reply:
        async with self._stream(prompt, options, streaming=False) as stream:
            return await stream.reply()

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> AsyncStream:
        """Return the reply to a prompt, its token ids or a conversation, as it is generated.

        The request is sent on entering the `async with`; leaving it cancels an unfinished reply.

        Raises:
            InvalidRequest: an option cannot be sent.
        """
        return self._stream(prompt, options, streaming=True)

    async def is_ready(self) -> bool:
        """Return whether the model can be called now.

        Raises:
            LlmJpError: asking again would not help (`NotPermitted`, for example).
        """
        return await self._probe(PROBE_TIMEOUT_S) is None

    async def wait_until_ready(self, timeout: float = 60.0) -> None:  # noqa: ASYNC109  as in Client
        """Return as soon as the model can be called.

        Args:
            timeout: seconds.

        Raises:
            Unavailable: it still cannot after `timeout`; the message says why.
            LlmJpError: waiting would not help (`NotPermitted`, for example).
        """
        expires = time.monotonic() + timeout
        while reason := await self._probe(
            min(PROBE_TIMEOUT_S, max(expires - time.monotonic(), 0.01))
        ):
            if time.monotonic() + PROBE_EVERY_S >= expires:
                raise self._build_timeout(reason, timeout)
            await asyncio.sleep(PROBE_EVERY_S)

    async def close(self) -> None:
        """Cancel running calls and disconnect; later calls raise RuntimeError. Idempotent.

        Raises:
            RuntimeError: the client belongs to another event loop that still runs.
        """
        if self._loop is None or not self._loop.is_closed():
            self._check_loop()
            for pooled in self._channels.take_all():
                await pooled.channel.close()
        else:  # the connections ended with their loop
            self._channels.take_all()
        if self._close_port_forward is not do_nothing:
            await asyncio.to_thread(self._close_port_forward)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def _open_channel(self) -> PooledChannel:
        """Open a channel; never before the first call, because it belongs to the event loop."""
        target, options = self._endpoint, self._channel_options
        channel = (
            aio.secure_channel(target, self._credentials, options=options)
            if self._credentials
            else aio.insecure_channel(target, options=options)
        )
        return PooledChannel(channel, service_pb2_grpc.GRPCInferenceServiceStub(channel))

    async def _probe(self, timeout_s: float) -> str | None:
        try:
            return self._explain_not_ready(await self._ask_model(timeout_s))
        except Unsupported:  # by an older server, or a model that is not ours
            return self._explain_not_ready(await self._ask_triton(timeout_s))

    async def _ask_model(self, timeout_s: float) -> ReadyAnswer:
        metadata, request = self._build_metadata(), self._build_ready_request()
        call = self._call(self._channels.current, request, timeout_s, metadata)
        try:
            async for answer in call:
                return answer
        except grpc.RpcError as error:
            return error
        finally:
            call.cancel()
        return None

    async def _ask_triton(self, timeout_s: float) -> ReadyAnswer:
        request = pb.ModelReadyRequest(name=self._model)
        try:
            stub = self._channels.current.stub
            answer: ReadyAnswer = await stub.ModelReady(
                request, timeout=timeout_s, metadata=self._build_metadata()
            )
        except grpc.RpcError as error:
            answer = error
        return answer

    def _stream(self, prompt: Prompt, options: Options, *, streaming: bool) -> AsyncStream:
        exchange = self._begin_exchange(prompt, options, streaming=streaming)
        metadata = partial(self._build_metadata, options.get("metadata"))
        return AsyncStream(self._call, self._channels, exchange, metadata)

    def _call(
        self,
        pooled: PooledChannel,
        request: pb.ModelInferRequest,
        timeout_s: float | None,
        metadata: Metadata,
    ) -> Any:
        return pooled.stub.ModelStreamInfer(iter([request]), timeout=timeout_s, metadata=metadata)


class AsyncStream(PartialReply):
    """A reply as it is generated: an iterator of `Chunk` inside an `async with`. For one task.

    Example:
        >>> async with client.stream("自然言語処理とは") as stream:  # doctest: +SKIP
        ...     async for chunk in stream:
        ...         print(chunk.text, end="", flush=True)
        ...     print((await stream.reply()).usage)
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
        self._start = call
        self._channels = channels
        self._channel: PooledChannel | None = None
        self._call: Any = None

    async def reply(self) -> Reply:
        """Wait for the rest of the reply, and return the whole.

        Raises:
            LlmJpError: the tree is drawn in `llmjp_client`.
        """
        async for _ in self:
            pass
        return self._exchange.build_reply()

    def cancel(self) -> None:
        """Stop the reply; its slot at the server becomes free. Any task may call this."""
        self._exchange.cancelled = True
        if self._call is not None:
            self._call.cancel()

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.cancel()
        await self._call.code()
        pooled, self._channel = self._channel, None
        await self._release(pooled)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        if self._call is None:
            raise RuntimeError("a stream is read inside its `async with`, which also ends it")
        while not self._exchange.ended:
            try:
                if chunk := self._exchange.receive(await self._read()):
                    return chunk
            except (grpc.RpcError, LlmJpError) as error:
                delay = self._exchange.recover(error, now=time.monotonic(), chance=random.random())
                if delay is not None:
                    await asyncio.sleep(delay)
                    await self._open()
        raise StopAsyncIteration

    async def _read(self) -> pb.ModelStreamInferResponse | None:
        """Return the next response; None at the end.

        grpc raises CancelledError for a cancelled call; only a cancelled task may see that.
        """
        try:
            response = await self._call.read()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise Cancelled("the reply was cancelled on this side") from error
        return None if response is aio.EOF else response

    async def _open(self) -> None:
        if self._call is not None:
            self._call.cancel()
        metadata = self._build_metadata()  # may raise: no channel is taken yet
        before, self._channel = self._channel, self._channels.acquire(instead_of=self._channel)
        await self._release(before)
        request, timeout_s = self._exchange.start_attempt(time.monotonic())
        self._call = self._start(self._channel, request, timeout_s, metadata)
        if self._exchange.cancelled:
            self._call.cancel()

    async def _release(self, pooled: PooledChannel | None) -> None:
        """Give the channel of an ended call back; close it if nobody needs it any more."""
        if pooled is not None and (done := self._channels.release(pooled)) is not None:
            await done.channel.close()
