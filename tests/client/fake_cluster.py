"""An API server with one model, pods, and port-forwards as the kubelet speaks them."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from typing import Self

Object = dict[str, Any]


def pod(name: str, *, ready: bool = True) -> Object:
    return {
        "metadata": {"name": name},
        "spec": {
            "containers": [{"name": "triton", "ports": [{"name": "grpc", "containerPort": 1}]}]
        },
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
    }


@dataclass
class FakeCluster:
    """`targets` says where each ready pod's port leads to; a pod that is not in it is gone."""

    model: Object | None
    targets: dict[str, str]
    pods: list[Object] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)
    watched: threading.Event = field(default_factory=threading.Event)
    token: str = "secret"
    """Any other one has run out."""
    forbidden: str = "nothing"
    """What the end of a path must not be."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def kubeconfig(self, folder: Path) -> Path:
        """A file with the token of now."""
        path = folder / "kubeconfig"
        cluster = {"server": f"http://127.0.0.1:{self.port}"}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "contexts": [
                {"name": "fake", "context": {"cluster": "c", "user": "u", "namespace": "mine"}}
            ],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": self.token}}],
        }
        path.write_text(json.dumps(document))
        return path

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path)
        if request.headers["Authorization"] != f"Bearer {self.token}":
            return web.json_response({"message": "Unauthorized"}, status=401)
        if request.path.endswith(self.forbidden):
            return web.json_response({"message": f"no {self.forbidden} for you"}, status=403)
        match request.path.split("/")[1:]:
            case ["api", "v1", "namespaces", "mine", "pods"]:
                return web.json_response({"items": self.pods})
            case ["api", "v1", "namespaces", "mine", "pods", name, "portforward"]:
                return await self._forward(request, name)
            case [*_, "llmjpmodels", "a"] if self.model is not None:
                return web.json_response(self.model)
            case [*_, "llmjpmodels"]:
                assert request.query["watch"] == "true"
                self.watched.set()
                await self._stop.wait()
            case _:
                pass
        name = request.path.rpartition("/")[2]
        return web.json_response({"message": f'"{name}" not found'}, status=404)

    async def _forward(self, request: web.Request, name: str) -> web.StreamResponse:
        if name not in self.targets:
            return web.json_response({"message": f'pods "{name}" not found'}, status=404)
        assert request.query["ports"] == "1"
        if request.headers.get("Accept") == "application/json":
            return web.Response(status=406)  # as the API server does
        socket = web.WebSocketResponse(protocols=["v4.channel.k8s.io"])
        await socket.prepare(request)
        for channel in (0, 1):
            await socket.send_bytes(bytes([channel]) + struct.pack("<H", 1))
        host, _, port = self.targets[name].rpartition(":")
        self.reached.append(name)
        try:
            reader, writer = await asyncio.open_connection(host, int(port))
        except OSError as error:
            await socket.send_bytes(b"\x01" + str(error).encode())
            return socket
        down = asyncio.create_task(self._down(reader, socket))
        try:
            async for message in socket:
                assert message.data[0] == 0
                writer.write(message.data[1:])
                await writer.drain()
        finally:
            down.cancel()
            writer.close()
        return socket

    @staticmethod
    async def _down(reader: asyncio.StreamReader, socket: web.WebSocketResponse) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 14):
                await socket.send_bytes(b"\0" + data)
        await socket.close()
