"""A faulty API server for the operator: errors, cut watches, and kills at its writes.

An HTTP proxy before `kubectl proxy`, which speaks to the API server with an administrator's rights.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import web

from hack.local_cluster.kubectl import environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hack.local_cluster import Kubectl

Object = dict[str, Any]

WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
REASONS: Final = {409: "Conflict", 410: "Expired", 429: "TooManyRequests", 500: "InternalError"}


@dataclass
class ApiFaults:
    """Faults to inject. May be changed at any time."""

    errors: tuple[int, ...] = ()
    """Statuses that every `every`-th call gets, in turn, instead of an answer."""
    every: int = 3
    watch_s: float | None = None
    """Watches are cut after so long, without a word."""
    expired: bool = False
    """Watches that resume from a version are told that it is too old."""
    refused: bool = False
    """Watches are refused with 410 before they begin, which ends kopf; no API server does that."""
    kill_after: int | None = None
    """The process is killed when so many writes have reached the API server."""
    writes: list[str] = field(default_factory=list)
    """Method and path of every write that reached it, but the Lease's."""
    victim: int = 0
    """Process id of the operator."""
    _calls: Iterator[int] = field(default_factory=itertools.count)
    _errors: Iterator[int] = field(default_factory=itertools.count)

    def next_error(self) -> int | None:
        """Return the status that a call gets instead of an answer; None for none."""
        if not self.errors or next(self._calls) % self.every:
            return None
        return self.errors[next(self._errors) % len(self.errors)]


@contextmanager
def faulty_api_server(kubectl: Kubectl, faults: ApiFaults) -> Iterator[str]:
    """Yield the address of an API server with faults, for as long as the block lasts."""
    straight = subprocess.Popen(
        kubectl.command("proxy", "--port=0", "--reject-paths=^$"),
        env=environment(os.environ),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert straight.stdout is not None
        port = int(straight.stdout.readline().rpartition(":")[2])
        with _served(_Proxy(f"http://127.0.0.1:{port}", faults)) as address:
            yield address
    finally:
        straight.terminate()
        straight.communicate()


@dataclass
class _Proxy:
    upstream: str
    faults: ApiFaults

    async def handle(self, request: web.Request) -> web.StreamResponse:
        watch = request.query.get("watch") in {"true", "1"}
        lease = "/leases" in request.path
        status = None if watch or lease else self.faults.next_error()
        # Reads are never in conflict.
        if status is not None and (status != 409 or request.method in WRITES):
            return _refused(status)
        if watch and self.faults.refused:
            return _refused(410)
        if watch and self.faults.expired and request.query.get("resourceVersion"):
            return await _expired(request)
        body = await request.read() or None
        headers = {k: v for k, v in request.headers.items() if k.lower() in _PASSED}
        timeout = aiohttp.ClientTimeout(total=None, sock_read=None)
        async with (
            aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
            session.request(
                request.method, f"{self.upstream}{request.path_qs}", data=body, headers=headers
            ) as answer,
        ):
            if request.method in WRITES and not lease:
                self._count(f"{request.method} {request.path}")
            return await self._passed_on(request, answer, watch=watch)

    def _count(self, write: str) -> None:
        faults = self.faults
        faults.writes.append(write)
        if faults.kill_after is not None and len(faults.writes) > faults.kill_after:
            faults.kill_after = None
            with suppress(ProcessLookupError):
                os.kill(faults.victim, signal.SIGKILL)

    async def _passed_on(
        self, request: web.Request, answer: aiohttp.ClientResponse, *, watch: bool
    ) -> web.StreamResponse:
        kind = answer.headers.get("Content-Type", "application/json")
        if not watch:
            return web.Response(
                status=answer.status, body=await answer.read(), headers={"Content-Type": kind}
            )
        response = web.StreamResponse(status=answer.status, headers={"Content-Type": kind})
        await response.prepare(request)
        with suppress(TimeoutError, aiohttp.ClientError, ConnectionResetError):
            async with asyncio.timeout(self.faults.watch_s):
                async for piece in answer.content.iter_any():
                    await response.write(piece)
        if request.transport is not None:
            request.transport.abort()
        return response


_PASSED: Final = frozenset({"content-type", "accept"})


def _status(code: int) -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": f"a fault of the test: {code}",
        "reason": REASONS[code],
        "code": code,
    }


async def _expired(request: web.Request) -> web.StreamResponse:
    """Answer as the API server does: an ERROR event in a stream that began well.

    kubernetes/kubernetes, staging/src/k8s.io/apiserver/pkg/storage/cacher/cacher.go, `Watch`.
    """
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    event = {"type": "ERROR", "object": _status(410)}
    await response.write(json.dumps(event).encode() + b"\n")
    await response.write_eof()
    return response


def _refused(status: int) -> web.Response:
    body = _status(status)
    headers = {"Content-Type": "application/json"}
    if status == 429:
        headers["Retry-After"] = "1"
    return web.Response(status=status, text=json.dumps(body), headers=headers)


@contextmanager
def _served(proxy: _Proxy) -> Iterator[str]:
    ready = threading.Event()
    address: list[str] = []
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        running.append((asyncio.get_running_loop(), stop))
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        address.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield address[0]
    finally:
        loop, stop = running[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=30)


def write_kubeconfig(folder: Path, address: str) -> Path:
    """Write a kubeconfig for an address without TLS and without credentials."""
    path = folder / "kubeconfig"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "faults",
        "contexts": [{"name": "faults", "context": {"cluster": "faults", "user": "nobody"}}],
        "clusters": [{"name": "faults", "cluster": {"server": address}}],
        "users": [{"name": "nobody", "user": {}}],
    }
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


SETTINGS: Final = {
    "images": {
        "cpu": {"builder": "builder:cpu", "runtime": "runtime:cpu"},
        "1.2.1": {"builder": "builder:gpu", "runtime": "runtime:gpu"},
    },
    "leaderElection": {"enabled": False},
    "resyncSeconds": 2,
}


def start_operator(folder: Path, config: Path, namespace: str) -> subprocess.Popen[bytes]:
    """Start an operator for one namespace, as a process of this machine; it logs to the folder."""
    settings = folder / "settings.json"
    settings.write_text(json.dumps(SETTINGS), encoding="utf-8")
    environ = {
        **environment(os.environ),
        "KUBECONFIG": str(config),
        "LLMJP_SETTINGS": str(settings),
        "LLMJP_NAMESPACE": namespace,
        "LLMJP_WATCH_NAMESPACES": namespace,
        "LLMJP_PORT": "0",
    }
    with (folder / "operator.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "llmjp_operator"], env=environ, stdout=log, stderr=log
        )
