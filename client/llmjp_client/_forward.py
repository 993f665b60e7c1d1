"""Into a cluster from outside: connections through its API server to pods.

Everything runs on one event loop in a thread of its own, so that both clients share it, and so that
closing it ends whatever is under way. Needs the extra `cluster`; imported by `from_resource` only.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import aiohttp

from ._errors import LlmJpError, NotPermitted, Unavailable
from .kube import NotFound, hang_up

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Callable, Coroutine

    from .kube import Api

Object = dict[str, Any]
T = TypeVar("T")

FAREWELL_S: Final = 1.0
"""What the API server may take to answer that a connection ends."""
CHUNK: Final = 1 << 16
"""Bytes that are passed on at once."""
DATA, ERROR = 0, 1
"""Channels of a forwarded port."""

_log = logging.getLogger(__name__)


class Background:
    """An event loop in a thread, for one client."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._closers: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._thread = threading.Thread(target=self._run, name="llmjp-client-forward", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Begin `work` there."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`; given up where the waiting thread is interrupted."""
        future = self.submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def at_close(self, closer: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `closer` there when this is closed; the last one first."""
        self._closers.append(closer)

    def close(self) -> None:
        """Cancel all that runs there and wait for its end. Idempotent."""
        with suppress(RuntimeError):  # closed already
            self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()
            runner.run(self._close_all())

    async def _close_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        while self._closers:
            await self._closers.pop()()


def ready_pods(pods: list[Object]) -> list[Object]:
    """Those that answer and are not about to end, by name (pure)."""
    return sorted(
        (
            pod
            for pod in pods
            if "deletionTimestamp" not in pod["metadata"]
            and any(
                (condition["type"], condition["status"]) == ("Ready", "True")
                for condition in (pod.get("status") or {}).get("conditions") or ()
            )
        ),
        key=lambda pod: str(pod["metadata"]["name"]),
    )


def port_of(pod: Object, name: str, default: int) -> int:
    """The number of a pod's port (pure)."""
    ports = (p for c in pod["spec"]["containers"] for p in c.get("ports") or ())
    return next((int(p["containerPort"]) for p in ports if p.get("name") == name), default)


class Forward:
    """A port of this machine that leads to pods: each connection to one that is ready then."""

    def __init__(self, api: Api, namespace: str, selector: str, port: int) -> None:
        self._api = api
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._selector = selector
        self._port = port
        self._turn = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Listen; the port."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=CHUNK)
        self._server = server
        return int(server.sockets[0].getsockname()[1])

    async def check(self) -> None:
        """Try a connection: a right that is missing is named then, instead of one that breaks.

        Raises:
            NotPermitted: it is.
        """
        with suppress(Unavailable, NotFound):  # a pod may be there in a moment
            await _farewell(await self._reach())

    async def close(self) -> None:
        """Stop listening, end all connections."""
        self._server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._api.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await _bridge(reader, writer, await self._reach())
        except LlmJpError as error:
            # The connection ends, which is what a caller sees of a server that is not there.
            _log.info("port-forward: %s", error)
        except asyncio.CancelledError:
            pass  # closed
        finally:
            self._tasks.discard(task)
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _reach(self) -> aiohttp.ClientWebSocketResponse:
        """A connection to the next pod in turn; to another, where that one is gone by now."""
        listed = await self._api.get(self._pods, {"labelSelector": self._selector})
        found = ready_pods(listed["items"])
        self._turn += 1
        failure: LlmJpError = Unavailable("no pod of the model is ready")
        for offset in range(len(found)):
            pod = found[(self._turn + offset) % len(found)]
            try:
                return await self._api.open_port(
                    f"{self._pods}/{pod['metadata']['name']}", port_of(pod, "grpc", self._port)
                )
            except NotPermitted:
                raise
            except LlmJpError as error:
                failure = error
        raise failure


async def _bridge(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    pod: aiohttp.ClientWebSocketResponse,
) -> None:
    """Pass on both ways until either side ends; what the pod sent before its end arrives."""
    down = asyncio.create_task(_down(pod, writer))
    up = asyncio.create_task(_up(reader, pod))
    try:
        await asyncio.wait({down, up}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (down, up):
            task.cancel()
        await asyncio.gather(down, up, return_exceptions=True)
        await _farewell(pod)


async def _farewell(pod: aiohttp.ClientWebSocketResponse) -> None:
    connection = getattr(pod, "_conn", None)  # gone from the public surface once it is closed
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await pod.close()
    finally:
        hang_up(connection)


async def _up(reader: asyncio.StreamReader, pod: aiohttp.ClientWebSocketResponse) -> None:
    with suppress(OSError, aiohttp.ClientError):
        while data := await reader.read(CHUNK):
            await pod.send_bytes(bytes((DATA,)) + data)


async def _down(pod: aiohttp.ClientWebSocketResponse, writer: asyncio.StreamWriter) -> None:
    begun: set[int] = set()
    with suppress(OSError, aiohttp.ClientError):
        async for message in pod:
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel not in begun:
                begun.add(channel)  # its first message is the port's number
            elif channel == ERROR:
                _log.info("port-forward: %s", data.decode(errors="replace"))
                return
            else:
                writer.write(data)
                await writer.drain()
