"""Calls to a cluster's API server, as plain objects.

Needs the extra `cluster`; imported by `from_resource` only.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from kubernetes.aio import client, config

from ._errors import InvalidRequest, LlmJpError, NotPermitted, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping

Object = dict[str, Any]

CALL_TIMEOUT_S: Final = 30.0
"""No call to the API server takes longer, watches excepted."""
_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where pods find their credentials."""
_AS_JSON: Final = {"Accept": "application/json"}
"""Not for port-forwards, which the API server would refuse (406)."""
_CHANNELS: Final = ("v4.channel.k8s.io",)
"""How a kubelet speaks over a WebSocket: the first byte of each message names a channel."""


class NotFound(LlmJpError):
    """The API server knows no such object."""


class NotConfigured(InvalidRequest):
    """There is no kubeconfig, or it names no cluster."""


class ApiForbidden(NotPermitted):
    """The API server knows who asks, or not, and refuses."""

    hint = "the rights that are needed are listed in docs/client.md"


class ApiUnreachable(Unavailable):
    """The API server does not answer."""

    hint = "check the kubeconfig and the way to the cluster's API server"


class Login:
    """A pod's own credentials, or a kubeconfig's."""

    def __init__(self, kubeconfig: str | os.PathLike[str] | None, context: str | None) -> None:
        self._path = None if kubeconfig is None else os.fspath(kubeconfig)
        self._context = context
        named = kubeconfig is not None or context is not None or "KUBECONFIG" in os.environ
        self.of_pod = not named and in_pod()
        """Whether this process is a pod of the cluster."""

    async def write(self, settings: Any) -> str:
        """Put them into the settings, as they are now; the namespace that goes with them.

        Raises:
            NotConfigured: there are none.
        """
        try:
            if self.of_pod:
                config.load_incluster_config(client_configuration=settings)
                return (_ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
            await config.load_kube_config(
                self._path,
                context=self._context,
                client_configuration=settings,
                persist_config=False,
            )
            contexts, active = config.list_kube_config_contexts(self._path)
        except (config.ConfigException, OSError) as error:
            raise NotConfigured(f"no access to a cluster: {error}") from error
        if self._context is not None:
            active = next((each for each in contexts if each["name"] == self._context), active)
        return str(active["context"].get("namespace") or "default")


def in_pod() -> bool:
    """Whether this process has a pod's credentials."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and (_ACCOUNT / "token").is_file()


class Api:
    """Calls to one API server. Credentials that ran out are read again, as logins are often short.

    A certificate is not: a new one takes a new client.
    """

    def __init__(self, login: Login, settings: Any, namespace: str) -> None:
        self.namespace = namespace
        """That of the credentials."""
        self.inside = login.of_pod
        """Whether this process is a pod of that cluster."""
        self._login = login
        self._settings = settings
        self._api = client.ApiClient(settings)

    @classmethod
    async def connect(cls, kubeconfig: str | os.PathLike[str] | None, context: str | None) -> Api:
        """With a kubeconfig, or with a pod's own credentials where nobody names one.

        Raises:
            NotConfigured: there is neither.
        """
        login, settings = Login(kubeconfig, context), client.Configuration()
        return cls(login, settings, await login.write(settings))

    async def close(self) -> None:
        """Disconnect."""
        await self._api.close()

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Object:
        """An object or a list.

        Raises:
            NotFound, NotPermitted, Unavailable: the API server refuses or does not answer.
        """
        with _errors(path):
            response = await self._call(path, query or {}, CALL_TIMEOUT_S)
            found: Object = json.loads(await response.read())
            return found

    async def watch(
        self, path: str, query: Mapping[str, str], seconds: int
    ) -> AsyncGenerator[Object, None]:
        """Events as they happen, for so many seconds at most; errors as for `get`.

        Yields:
            Each.
        """
        asked = {**query, "watch": "true", "timeoutSeconds": str(seconds)}
        with _errors(path):
            response = await self._call(path, asked, seconds + CALL_TIMEOUT_S)
            try:
                async for line in response.content:
                    yield json.loads(line)
            finally:
                hang_up(response.connection)
                response.close()

    async def open_port(self, path: str, port: int) -> aiohttp.ClientWebSocketResponse:
        """A connection to a port of a pod; errors as for `get`."""
        path = f"{path}/portforward"
        with _errors(path):
            try:
                return await self._handshake(path, port)
            except aiohttp.WSServerHandshakeError as error:
                if error.status != 401:
                    raise
            await self._login.write(self._settings)
            return await self._handshake(path, port)

    async def _handshake(self, path: str, port: int) -> aiohttp.ClientWebSocketResponse:
        _, url, headers, *_ = await self._request(path, {"ports": str(port)}, {})
        rest = self._api.rest_client
        session: aiohttp.ClientSession = rest.pool_manager  # that of the calls before
        return await session.ws_connect(
            url,
            headers=headers,
            protocols=_CHANNELS,
            proxy=rest.proxy,
            proxy_headers=rest.proxy_headers,
            server_hostname=self._settings.tls_server_name,
        )

    async def _call(self, path: str, query: Mapping[str, str], timeout_s: float) -> Any:
        """The response, as aiohttp has it."""
        request = await self._request(path, query)
        answer = await self._api.call_api(*request, _request_timeout=timeout_s)
        if answer.status == 401:
            await self._login.write(self._settings)
            request = await self._request(path, query)
            answer = await self._api.call_api(*request, _request_timeout=timeout_s)
        if answer.status >= 400:
            raise _refused(answer.status, path, (await answer.read()).decode(errors="replace"))
        return answer.response

    async def _request(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str] = _AS_JSON
    ) -> Any:
        return await self._api.param_serialize(
            "GET",
            path,
            query_params=list(query.items()),
            header_params=dict(headers),
            auth_settings=["BearerToken"],
        )


def hang_up(connection: Any) -> None:
    """End a connection at once: the farewell of TLS would outlast the event loop."""
    transport = getattr(connection, "transport", None)
    if transport is not None:
        transport.abort()


@contextmanager
def _errors(path: str) -> Iterator[None]:
    """Everything that goes wrong in a call, as one of ours."""
    try:
        yield
    except aiohttp.WSServerHandshakeError as error:
        raise _refused(error.status, path, error.message) from error
    except client.ApiException as error:
        raise _refused(error.status or 0, path, str(error.body or error.reason or "")) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        message = f"the API server cannot be reached: {type(error).__name__}: {error}"
        raise ApiUnreachable(message) from error


def _refused(status: int, path: str, text: str) -> LlmJpError:
    """What the API server's answer comes to (pure)."""
    with suppress(ValueError, KeyError, TypeError):
        text = json.loads(text)["message"]
    said = f"the API server answers {status} for {path}: {text}"
    if status == 404:
        return NotFound(said)
    if status in {401, 403}:
        return ApiForbidden(said)
    return ApiUnreachable(said)
