"""The asynchronous shell: gRPC calls, waiting, and no decisions."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from ._base import PROBE_EVERY_S, PROBE_TIMEOUT_S, BaseClient
from ._channels import Line, Lines
from ._errors import Cancelled, LlmJpError
from ._exchange import Exchange, Progress
from ._resource import Wanted, nothing, opened_async

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike
    from typing import Self, Unpack

    from ._resource import Settings
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

    _release: Callable[[], object] = staticmethod(nothing)
    """Ends what a connection from `from_resource` leads through."""

    @classmethod
    async def from_resource(
        cls,
        name: str,
        namespace: str | None = None,
        *,
        wait: float = 600.0,
        kubeconfig: str | PathLike[str] | None = None,
        context: str | None = None,
        **settings: Unpack[Settings],
    ) -> Self:
        """As `Client.from_resource`: `client = await AsyncClient.from_resource("llmjp-172b")`.

        Raises:
            ModelNotFound: there is no such LlmJpModel.
            Unavailable: it does not serve in time, or waiting is in vain; says phase and reasons.
            NotPermitted: the API server refuses.
            Unsupported: the package `kubernetes` is missing.
        """
        wanted = Wanted(name, namespace, wait, kubeconfig, context)
        return await opened_async(cls, wanted, settings)

    def _setup(self) -> None:
        self._lines = Lines(self._line)

    async def generate(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Reply:
        """The whole reply to a raw prompt, or to its token ids.

        Raises:
            LlmJpError: the tree is drawn in `llmjp_client`.
        """
        async with self._stream(prompt, options, streaming=False) as stream:
            return await stream.reply()

    async def chat(self, messages: Sequence[Message], **options: Unpack[Options]) -> Reply:
        """The whole reply to a conversation.

        Raises:
            LlmJpError: the tree is drawn in `llmjp_client`.
        """
        async with self._stream(messages, options, streaming=False) as stream:
            return await stream.reply()

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> AsyncStream:
        """A reply to a prompt, its token ids or a conversation, as it is generated.

        The request is sent on entering the `async with`; leaving it cancels what is not finished.

        Raises:
            InvalidRequest: an option cannot be sent.
        """
        return self._stream(prompt, options, streaming=True)

    async def is_ready(self) -> bool:
        """Whether the model can be called now.

        Raises:
            LlmJpError: asking again would not help (such as NotPermitted).
        """
        return await self._probe(PROBE_TIMEOUT_S) is None

    async def wait_until_ready(self, timeout: float = 60.0) -> None:  # noqa: ASYNC109  as in Client
        """Return as soon as the model can be called.

        Args:
            timeout: seconds.

        Raises:
            Unavailable: it cannot after `timeout`; the message says what was missing last.
            LlmJpError: waiting would not help (such as NotPermitted).
        """
        expires = time.monotonic() + timeout
        while reason := await self._probe(
            min(PROBE_TIMEOUT_S, max(expires - time.monotonic(), 0.01))
        ):
            if time.monotonic() + PROBE_EVERY_S >= expires:
                raise self._never_ready(reason, timeout)
            await asyncio.sleep(PROBE_EVERY_S)

    async def close(self) -> None:
        """Cancel what runs and disconnect. Idempotent."""
        for line in self._lines.all():
            await line.channel.close()
        if self._release is not nothing:
            await asyncio.to_thread(self._release)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def _line(self) -> Line:
        """Called at the first call and later, because it must be made inside the event loop."""
        target, options = self._endpoint, self._channel_options
        channel = (
            aio.secure_channel(target, self._credentials, options=options)
            if self._credentials
            else aio.insecure_channel(target, options=options)
        )
        return Line(channel, service_pb2_grpc.GRPCInferenceServiceStub(channel))

    async def _probe(self, timeout_s: float) -> str | None:
        request = pb.ModelReadyRequest(name=self._model)
        try:
            stub = self._lines.current.stub
            answer = await stub.ModelReady(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            answer = error
        return self._unready(answer)

    def _stream(self, prompt: Prompt, options: Options, *, streaming: bool) -> AsyncStream:
        exchange = self._exchange(prompt, options, streaming=streaming)
        return AsyncStream(self._call, self._lines, exchange)

    def _call(self, line: Line, request: pb.ModelInferRequest, timeout_s: float | None) -> Any:
        return line.stub.ModelStreamInfer(
            iter([request]), timeout=timeout_s, metadata=self._metadata
        )


class AsyncStream(Progress):
    """A reply as it is generated: an iterator of `Chunk` inside an `async with`. For one task.

    Example:
        >>> async with client.stream("自然言語処理とは") as stream:  # doctest: +SKIP
        ...     async for chunk in stream:
        ...         print(chunk.text, end="", flush=True)
        ...     print((await stream.reply()).usage)
    """

    def __init__(self, call: Callable[..., Any], lines: Lines, exchange: Exchange) -> None:
        super().__init__(exchange)
        self._start = call
        self._lines = lines
        self._line: Line | None = None
        self._call: Any = None

    async def reply(self) -> Reply:
        """The whole reply, after waiting for what is missing.

        Raises:
            LlmJpError: the tree is drawn in `llmjp_client`.
        """
        async for _ in self:
            pass
        return self._exchange.reply()

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
        line, self._line = self._line, None
        await self._hang_up(line)

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
        """The next response; None at the end.

        grpc raises CancelledError where the call was cancelled; only a cancelled task may see that.
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
        before, self._line = self._line, self._lines.take(instead_of=self._line)
        await self._hang_up(before)
        self._call = self._start(self._line, *self._exchange.attempt(time.monotonic()))
        if self._exchange.cancelled:
            self._call.cancel()

    async def _hang_up(self, line: Line | None) -> None:
        """The call over it has ended; the line goes if nobody needs it any more."""
        if line is not None and (done := self._lines.give(line)) is not None:
            await done.channel.close()
