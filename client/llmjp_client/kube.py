"""Access to a cluster's API server: plain objects, as the API server spells them.

Needs the extra `cluster`, so `from_resource` and the command line import it only when used. The
import raises `Unsupported` where the extra is not installed.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ._errors import (
    InvalidRequest,
    LlmJpError,
    ModelNotFound,
    NotPermitted,
    Unavailable,
    Unsupported,
)

try:
    import aiohttp
    from kubernetes.aio import client, config
except ModuleNotFoundError as error:
    missing = (
        "access to a cluster needs the package kubernetes: pip install 'llmjp-serving[cluster]'"
    )
    raise Unsupported(missing) from error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping
    from typing import Self

Object = dict[str, Any]

API_VERSION: Final = "serving.llmjp.dev/v1alpha1"
PLURAL: Final = "llmjpmodels"
CALL_TIMEOUT_S: Final = 30.0
"""No call to the API server takes longer, watches excepted."""
PAGE_SIZE: Final = 500
"""Objects per answer to a list."""
JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
METADATA_ONLY: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""For `accept`: the object without spec, status and data, such as a Secret's name only."""
_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where pods find their credentials."""
_SUBPROTOCOLS: Final = ("v4.channel.k8s.io",)
"""How a kubelet speaks over a WebSocket: the first byte of each message names a channel."""


class KubeObjectNotFound(LlmJpError):
    """The API server knows no such object."""

    exit_code = 3


class KubeconfigError(InvalidRequest):
    """There is no kubeconfig, or it names no cluster."""


class KubeForbidden(NotPermitted):
    """The API server refuses this user, or does not know them."""

    hint = "docs/client.md lists the rights that are needed"


class KubeApiFailed(Unavailable):
    """The API server answers, but not with what was asked for."""

    hint = ""


class KubeApiUnreachable(KubeApiFailed):
    """The API server does not answer."""

    hint = "check the kubeconfig and the network path to the cluster's API server"


class KubeLogin:
    """A pod's own credentials, or a kubeconfig's."""

    def __init__(self, kubeconfig: str | os.PathLike[str] | None, context: str | None) -> None:
        self._path = None if kubeconfig is None else os.fspath(kubeconfig)
        self._context = context
        named = kubeconfig is not None or context is not None or "KUBECONFIG" in os.environ
        self.in_cluster = not named and has_service_account()
        """Whether the credentials are those of this pod."""

    async def load_into(self, configuration: Any) -> str:
        """Read the credentials as they are now into `configuration`; return their namespace.

        Raises:
            KubeconfigError: there are none.
        """
        try:
            if self.in_cluster:
                config.load_incluster_config(client_configuration=configuration)
                return (_SERVICE_ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
            await config.load_kube_config(
                self._path,
                context=self._context,
                client_configuration=configuration,
                persist_config=False,
            )
            contexts, active = config.list_kube_config_contexts(self._path)
        except (config.ConfigException, OSError) as error:
            raise KubeconfigError(f"no access to a cluster: {error}") from error
        if self._context is not None:
            active = next((each for each in contexts if each["name"] == self._context), active)
        return str(active["context"].get("namespace") or "default")


def has_service_account() -> bool:
    """Return whether this process is a pod with credentials for its cluster."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and (_SERVICE_ACCOUNT / "token").is_file()


def format_models_path(namespace: str | None) -> str:
    """Return the path of a namespace's LlmJpModels; of all namespaces for None."""
    scope = f"namespaces/{namespace}/" if namespace else ""
    return f"/apis/{API_VERSION}/{scope}{PLURAL}"


class KubeApi:
    """Calls to one API server, as one user. Belongs to the event loop of its first call.

    Tokens that expired are read again, as logins are often short-lived. A client certificate is
    not: a new one takes a new `KubeApi`.
    """

    def __init__(self, login: KubeLogin, configuration: Any, namespace: str) -> None:
        self.namespace = namespace
        """The namespace of the credentials."""
        self.in_cluster = login.in_cluster
        """Whether this process is a pod of that cluster."""
        self._login = login
        self._configuration = configuration
        self._client = client.ApiClient(configuration)
        self._clock_skew_s = 0.0

    @classmethod
    async def connect(
        cls, kubeconfig: str | os.PathLike[str] | None, context: str | None
    ) -> KubeApi:
        """Return access by a kubeconfig, or by a pod's own credentials where none is named.

        Raises:
            KubeconfigError: there is neither.
        """
        login, configuration = KubeLogin(kubeconfig, context), client.Configuration()
        return cls(login, configuration, await login.load_into(configuration))

    async def close(self) -> None:
        """Disconnect."""
        await self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def get(
        self, path: str, query: Mapping[str, str] | None = None, *, accept: str = JSON
    ) -> Object:
        """Return an object, or one page of a list.

        Raises:
            KubeObjectNotFound, KubeForbidden, KubeApiFailed: the API server refuses or does not
                answer.
        """
        return await self._call("GET", path, query=query or {}, accept=accept)

    async def list_items(self, path: str, query: Mapping[str, str] | None = None) -> list[Object]:
        """Return all objects of a list, page by page; errors as for `get`."""
        items: list[Object] = []
        page_query = {**(query or {}), "limit": str(PAGE_SIZE)}
        while True:
            page = await self.get(path, page_query)
            items += page["items"]
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return items
            page_query["continue"] = token

    async def create(self, path: str, body: Object) -> Object:
        """Create an object and return it as the API server stored it; errors as for `get`."""
        return await self._call("POST", path, body=body)

    async def patch(self, path: str, body: Object) -> Object:
        """Change the fields of an object that `body` has, null to remove; errors as for `get`."""
        return await self._call("PATCH", path, body=body, content_type=MERGE_PATCH)

    async def get_model(self, namespace: str, name: str) -> Object:
        """Return an LlmJpModel; other errors as for `get`.

        Raises:
            ModelNotFound: there is none of that name, or the cluster does not know the kind.
        """
        try:
            return await self.get(f"{format_models_path(namespace)}/{name}")
        except KubeObjectNotFound as error:
            if f'"{name}" not found' in error.reason:
                absent = f"no LlmJpModel {name} in namespace {namespace}"
                raise ModelNotFound(f"{absent}: `llmjp status -A` lists all") from error
            unknown = "this cluster has no kind LlmJpModel: install the operator"
            raise ModelNotFound(f"{unknown}; `llmjp doctor` says what is missing") from error

    async def watch(
        self, path: str, query: Mapping[str, str], seconds: int
    ) -> AsyncGenerator[Object, None]:
        """Yield watch events as they happen, for at most `seconds`; errors as for `get`.

        Yields:
            Each event.
        """
        watch_query = {**query, "watch": "true", "timeoutSeconds": str(seconds)}
        with _translate_errors(path):
            response = await self._send(
                "GET", path, query=watch_query, timeout_s=seconds + CALL_TIMEOUT_S
            )
            try:
                async for line in response.content:
                    yield json.loads(line)
            finally:
                abort_connection(response.connection)
                response.close()

    async def open_port_forward(self, path: str, port: int) -> aiohttp.ClientWebSocketResponse:
        """Return a connection to a port of the pod at `path`; errors as for `get`."""
        path = f"{path}/portforward"
        with _translate_errors(path):
            try:
                return await self._open_websocket(path, port)
            except aiohttp.WSServerHandshakeError as error:
                if error.status != 401:
                    raise
            await self._login.load_into(self._configuration)
            return await self._open_websocket(path, port)

    def estimate_server_time(self) -> float:
        """Return seconds since 1970 by the API server's clock, as its last answer told it."""
        return time.time() + self._clock_skew_s

    async def _open_websocket(self, path: str, port: int) -> aiohttp.ClientWebSocketResponse:
        # Without an Accept header: the API server would refuse JSON here (406).
        _, url, headers, *_ = await self._build_request("GET", path, query={"ports": str(port)})
        rest = self._client.rest_client
        session: aiohttp.ClientSession = rest.pool_manager  # that of the calls before
        return await session.ws_connect(
            url,
            headers=headers,
            protocols=_SUBPROTOCOLS,
            proxy=rest.proxy,
            proxy_headers=rest.proxy_headers,
            server_hostname=self._configuration.tls_server_name,
        )

    async def _call(self, method: str, path: str, **request: Any) -> Object:
        with _translate_errors(path):
            response = await self._send(method, path, timeout_s=CALL_TIMEOUT_S, **request)
            found: Object = json.loads(await response.read())
            return found

    async def _send(self, method: str, path: str, *, timeout_s: float, **request: Any) -> Any:
        """Return aiohttp's response; after a 401, log in again once."""
        built = await self._build_request(method, path, **{"accept": JSON, **request})
        answer = await self._client.call_api(*built, _request_timeout=timeout_s)
        if answer.status == 401:
            await self._login.load_into(self._configuration)
            built = await self._build_request(method, path, **{"accept": JSON, **request})
            answer = await self._client.call_api(*built, _request_timeout=timeout_s)
        if date := answer.headers.get("Date"):
            self._clock_skew_s = parsedate_to_datetime(date).timestamp() - time.time()
        if answer.status >= 400:
            text = (await answer.read()).decode(errors="replace")
            raise _build_error(answer.status, path, text)
        return answer.response

    async def _build_request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        accept: str | None = None,
        content_type: str = JSON,
    ) -> Any:
        headers = {"Accept": accept} if accept else {}
        if body is not None:
            headers["Content-Type"] = content_type
        return await self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )


def abort_connection(connection: Any) -> None:
    """End a connection at once: TLS's orderly close could outlast the event loop."""
    transport = getattr(connection, "transport", None)
    if transport is not None:
        transport.abort()


@contextmanager
def _translate_errors(path: str) -> Iterator[None]:
    """Raise whatever goes wrong in a call as one of our errors."""
    try:
        yield
    except aiohttp.WSServerHandshakeError as error:
        raise _build_error(error.status, path, error.message) from error
    except client.ApiException as error:
        text = str(error.body or error.reason or "")
        raise _build_error(error.status or 0, path, text) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        message = f"the API server cannot be reached: {type(error).__name__}: {error}"
        raise KubeApiUnreachable(message) from error


def _build_error(status: int, path: str, text: str) -> LlmJpError:
    """Return the error for an answer of the API server (pure)."""
    with suppress(ValueError, KeyError, TypeError):
        text = json.loads(text)["message"]
    kinds = {401: KubeForbidden, 403: KubeForbidden, 404: KubeObjectNotFound}
    kind = kinds.get(status, KubeApiFailed)
    return kind(f"the API server answered {status} for {path}: {text}")
