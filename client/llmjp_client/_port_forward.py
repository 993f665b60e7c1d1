"""A port-forward: connections from outside a cluster through its API server to pods.

Needs the extra `cluster`; `kube` says so where it is missing, so import that first.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from ._errors import LlmJpError, NotPermitted, Unavailable
from .kube import KubeObjectNotFound, abort_connection

if TYPE_CHECKING:
    from .kube import KubeApi

Object = dict[str, Any]

CLOSE_TIMEOUT_S: Final = 1.0
"""How long the API server may take to confirm the end of a connection."""
BUFFER_BYTES: Final = 1 << 16
"""Bytes that are copied at once."""
DATA, ERROR = 0, 1
"""Channels of a forwarded port: the first byte of each message."""

_log = logging.getLogger(__name__)


def select_ready_pods(pods: list[Object]) -> list[Object]:
    """Return the pods that are ready and not terminating, by name (pure)."""
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


def find_container_port(pod: Object, name: str, default: int) -> int:
    """Return the number of a pod's named port (pure)."""
    ports = (p for c in pod["spec"]["containers"] for p in c.get("ports") or ())
    return next((int(p["containerPort"]) for p in ports if p.get("name") == name), default)


class PortForward:
    """A local port that leads to pods: each connection to one that is ready at that time."""

    def __init__(self, api: KubeApi, namespace: str, selector: str, port: int) -> None:
        self._api = api
        self._pods_path = f"/api/v1/namespaces/{namespace}/pods"
        self._selector = selector
        self._port = port
        self._turn = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Listen on a free port, and return it."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=BUFFER_BYTES)
        self._server = server
        return int(server.sockets[0].getsockname()[1])

    async def check_access(self) -> None:
        """Try a connection, so that a missing right is reported now and not by a broken call.

        Raises:
            NotPermitted: a right is missing.
        """
        with suppress(Unavailable, KubeObjectNotFound):  # a pod may be ready in a moment
            await _close_websocket(await self._connect_to_pod())

    async def close(self) -> None:
        """Stop listening and end all connections."""
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
            await _bridge(reader, writer, await self._connect_to_pod())
        except LlmJpError as error:
            # The local connection closes, as if no server were listening.
            _log.info("port-forward: %s", error)
        except asyncio.CancelledError:
            pass  # by close()
        finally:
            self._tasks.discard(task)
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _connect_to_pod(self) -> aiohttp.ClientWebSocketResponse:
        """Return a connection to the next ready pod, round-robin; skip those gone by now."""
        pods = select_ready_pods(
            await self._api.list_items(self._pods_path, {"labelSelector": self._selector})
        )
        self._turn += 1
        failure: LlmJpError = Unavailable("no pod of the model is ready")
        for offset in range(len(pods)):
            pod = pods[(self._turn + offset) % len(pods)]
            try:
                return await self._api.open_port_forward(
                    f"{self._pods_path}/{pod['metadata']['name']}",
                    find_container_port(pod, "grpc", self._port),
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
    """Copy both ways until either side ends; what the pod sent before its end arrives."""
    down = asyncio.create_task(_copy_from_pod(pod, writer))
    up = asyncio.create_task(_copy_to_pod(reader, pod))
    try:
        await asyncio.wait({down, up}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (down, up):
            task.cancel()
        await asyncio.gather(down, up, return_exceptions=True)
        await _close_websocket(pod)


async def _close_websocket(pod: aiohttp.ClientWebSocketResponse) -> None:
    connection = getattr(pod, "_conn", None)  # no longer reachable otherwise once it is closed
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await pod.close()
    finally:
        abort_connection(connection)


async def _copy_to_pod(reader: asyncio.StreamReader, pod: aiohttp.ClientWebSocketResponse) -> None:
    with suppress(OSError, aiohttp.ClientError):
        while data := await reader.read(BUFFER_BYTES):
            await pod.send_bytes(bytes((DATA,)) + data)


async def _copy_from_pod(
    pod: aiohttp.ClientWebSocketResponse, writer: asyncio.StreamWriter
) -> None:
    begun: set[int] = set()
    with suppress(OSError, aiohttp.ClientError):
        async for message in pod:
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel not in begun:
                begun.add(channel)  # the first message of a channel is the port's number
            elif channel == ERROR:
                _log.info("port-forward: %s", data.decode(errors="replace"))
                return
            else:
                writer.write(data)
                await writer.drain()
