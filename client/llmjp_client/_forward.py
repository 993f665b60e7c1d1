"""Into a cluster from outside: calls to its API server, and connections through it to pods.

Everything runs on one event loop in a thread of its own, so that both clients share it, and so that
closing it ends whatever is under way. Needs the extra `cluster`; imported by `from_resource` only.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.stream import WsApiClient

from ._errors import InvalidRequest, LlmJpError, NotPermitted, Unavailable

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping

Object = dict[str, Any]
T = TypeVar("T")

CALL_TIMEOUT_S: Final = 30.0
"""No call to the API server takes longer, watches excepted."""
FAREWELL_S: Final = 1.0
"""What the API server may take to answer that a connection ends."""
CHUNK: Final = 1 << 16
"""Bytes that are passed on at once."""
DATA, ERROR = 0, 1
"""Channels of a forwarded port (kubelet, v4.channel.k8s.io)."""
_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where pods find their credentials."""

_log = logging.getLogger(__name__)


class NotFound(LlmJpError):
    """The API server knows no such object."""


class NotConfigured(InvalidRequest):
    """There is no kubeconfig, or it names no cluster."""


def in_pod() -> bool:
    """Whether this process has a pod's credentials."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and (_ACCOUNT / "token").is_file()


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


class Api:
    """Calls to one API server, as plain objects."""

    def __init__(self, settings: Any, namespace: str, *, inside: bool) -> None:
        self.namespace = namespace
        """That of the credentials."""
        self.inside = inside
        """Whether this process is a pod of that cluster."""
        self._api = client.ApiClient(settings)
        self._streams = WsApiClient(settings)

    @classmethod
    async def connect(cls, kubeconfig: str | os.PathLike[str] | None, context: str | None) -> Api:
        """With a kubeconfig, or with a pod's own credentials where nobody names one.

        Raises:
            NotConfigured: there is neither.
        """
        settings = client.Configuration()
        inside = kubeconfig is None and context is None and "KUBECONFIG" not in os.environ
        try:
            if inside and in_pod():
                config.load_incluster_config(client_configuration=settings)
                namespace = (_ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
                return cls(settings, namespace, inside=True)
            path = None if kubeconfig is None else os.fspath(kubeconfig)
            await config.load_kube_config(
                path, context=context, client_configuration=settings, persist_config=False
            )
            contexts, active = config.list_kube_config_contexts(path)
        except (config.ConfigException, OSError) as error:
            raise NotConfigured(f"no access to a cluster: {error}") from error
        if context is not None:
            active = next((each for each in contexts if each["name"] == context), active)
        return cls(settings, active["context"].get("namespace") or "default", inside=False)

    async def close(self) -> None:
        """Disconnect."""
        await self._api.close()
        await self._streams.close()

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Object:
        """An object or a list.

        Raises:
            NotFound, NotPermitted, Unavailable: the API server refuses or does not answer.
        """
        answer = await self._call(self._api, path, query or {}, CALL_TIMEOUT_S)
        found: Object = json.loads(await self._text(answer, path))
        return found

    async def watch(
        self, path: str, query: Mapping[str, str], seconds: int
    ) -> AsyncGenerator[Object, None]:
        """Events as they happen, for so many seconds at most; errors as for `get`."""
        asked = {**query, "watch": "true", "timeoutSeconds": str(seconds)}
        answer = await self._call(
            self._api, path, asked, seconds + CALL_TIMEOUT_S, _preload_content=False
        )
        response = getattr(answer, "response", answer)
        try:
            if response.status >= 400:
                raise _refused(response.status, path, await response.text())
            async for line in response.content:
                yield json.loads(line)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error) from error
        finally:
            _hang_up(response.connection)
            response.close()

    async def open_port(self, path: str, port: int) -> aiohttp.ClientWebSocketResponse:
        """A connection to a port of a pod.

        Raises:
            LlmJpError: there is none.
        """
        request = await self._streams.param_serialize(
            "GET",
            f"{path}/portforward",
            query_params=[("ports", str(port))],
            header_params={},
            auth_settings=["BearerToken"],
        )
        try:
            answer = await self._streams.call_api(*request, _preload_content=False)
            connection: aiohttp.ClientWebSocketResponse = await asyncio.wait_for(
                answer.response, CALL_TIMEOUT_S
            )
        except aiohttp.WSServerHandshakeError as error:
            raise _refused(error.status, path, error.message) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error) from error
        return connection

    async def _call(
        self, api: Any, path: str, query: Mapping[str, str], timeout_s: float, **how: Any
    ) -> Any:
        try:
            request = await api.param_serialize(
                "GET",
                path,
                query_params=list(query.items()),
                header_params={"Accept": "application/json"},
                auth_settings=["BearerToken"],
            )
            return await api.call_api(*request, _request_timeout=timeout_s, **how)
        except client.ApiException as error:
            raise _refused(error.status or 0, path, error.body or error.reason or "") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error) from error

    @staticmethod
    async def _text(answer: Any, path: str) -> str:
        try:
            data = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error) from error
        text: str = (data or b"").decode(errors="replace")
        if answer.status >= 400:
            raise _refused(answer.status, path, text)
        return text


def _hang_up(connection: Any) -> None:
    """End a connection at once: the farewell of TLS would outlast the event loop."""
    transport = getattr(connection, "transport", None)
    if transport is not None:
        transport.abort()


class ApiForbidden(NotPermitted):
    """The API server knows who asks, or not, and refuses."""

    hint = "the rights that are needed are listed in docs/client.md"


class ApiUnreachable(Unavailable):
    """The API server does not answer."""

    hint = "check the kubeconfig and the way to the cluster's API server"


def _unreachable(error: BaseException) -> ApiUnreachable:
    return ApiUnreachable(f"the API server cannot be reached: {type(error).__name__}: {error}")


def _refused(status: int, path: str, body: str | bytes) -> LlmJpError:
    """What the API server's answer comes to (pure)."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else body
    with suppress(ValueError, KeyError, TypeError):
        text = json.loads(text)["message"]
    said = f"the API server answers {status} for {path}: {text}"
    if status == 404:
        return NotFound(said)
    if status in {401, 403}:
        return ApiForbidden(said)
    return ApiUnreachable(said)


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
    connection = getattr(pod, "_conn", None)  # gone from the public surface once it is closed
    down = asyncio.create_task(_down(pod, writer))
    up = asyncio.create_task(_up(reader, pod))
    try:
        await asyncio.wait({down, up}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (down, up):
            task.cancel()
        await asyncio.gather(down, up, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await pod.close()
        _hang_up(connection)


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
