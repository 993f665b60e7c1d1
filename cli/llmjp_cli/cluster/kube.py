"""Calls to a cluster's API server for `llmjp status` and `llmjp doctor`: the only I/O of both.

Objects are plain dicts, as the API server spells them.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

Object = dict[str, Any]

JSON: Final = "application/json"
CALL_TIMEOUT_S: Final = 30.0
ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MODELS: Final = "serving.llmjp.dev/v1alpha1"

Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", show_default="the context's", help="Of the models."),
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        show_default="$KUBECONFIG, a pod's own credentials, or ~/.kube/config",
        help="Where credentials for the cluster are.",
    ),
]
Context = Annotated[
    str | None, typer.Option(show_default="the current one", help="Of the kubeconfig.")
]


class KubeError(Exception):
    """The API server did not answer as hoped."""

    exit_code: ClassVar[int] = 1


class Missing(KubeError):
    """The package `kubernetes` is not installed."""

    exit_code = 6


class NotConfigured(KubeError):
    """No kubeconfig, or one that names no cluster."""

    exit_code = 3


class Unreachable(KubeError):
    """Nobody answers."""


class NotFound(KubeError):
    """No such object."""

    exit_code = 3


class Forbidden(KubeError):
    """This user may not."""

    exit_code = 5


class Kube:
    """One cluster, as one user."""

    def __init__(self, api: Any, namespace: str) -> None:
        self._api = api
        self._skew = 0.0
        self.namespace = namespace
        """The context's."""

    @classmethod
    def connect(cls, kubeconfig: Path | None, context: str | None) -> Kube:
        """Read the credentials; nothing is asked yet.

        Raises:
            KubeError: there are none.
        """
        try:
            from kubernetes import client, config
        except ModuleNotFoundError as exc:
            message = "this needs the package kubernetes: pip install 'llmjp-serving[cluster]'"
            raise Missing(message) from exc
        settings = client.Configuration()
        settings.retries = False
        ours = kubeconfig is None and context is None and "KUBECONFIG" not in os.environ
        try:
            if ours and "KUBERNETES_SERVICE_HOST" in os.environ and (ACCOUNT / "token").is_file():
                config.load_incluster_config(client_configuration=settings)
                namespace = (ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
                return cls(client.ApiClient(settings), namespace)
            path = None if kubeconfig is None else str(kubeconfig)
            config.load_kube_config(
                path, context=context, client_configuration=settings, persist_config=False
            )
            contexts, active = config.list_kube_config_contexts(path)
        except (config.ConfigException, OSError) as exc:
            raise NotConfigured(f"no access to a cluster: {exc}") from exc
        active = next((each for each in contexts if each["name"] == context), active)
        return cls(client.ApiClient(settings), active["context"].get("namespace") or "default")

    def get(
        self, path: str, query: Mapping[str, str] | None = None, *, accept: str = JSON
    ) -> Object:
        """An object, or a list.

        Raises:
            KubeError: the API server refuses or does not answer.
        """
        found: Object = json.loads(self._call("GET", path, query, accept=accept).read())
        return found

    def items(self, path: str, query: Mapping[str, str] | None = None) -> list[Object]:
        """All objects of a list, asked for in chunks; errors as for `get`."""
        found: list[Object] = []
        asked = {**(query or {}), "limit": "500"}
        while True:
            listed = self.get(path, asked)
            found += listed["items"]
            more = listed["metadata"].get("continue")
            if not more:
                return found
            asked["continue"] = more

    def create(self, path: str, made: Object) -> Object:
        """A new object, as a question (reviews of access); errors as for `get`."""
        found: Object = json.loads(self._call("POST", path, None, made).read())
        return found

    def wait_for_change(self, path: str, query: Mapping[str, str], seconds: int) -> None:
        """Return at the next change, or after so many seconds; errors as for `get`."""
        asked = {**query, "watch": "true", "timeoutSeconds": str(seconds)}
        answer = self._call("GET", path, asked)
        try:
            with _errors(path):
                next(iter(answer.response), None)
        finally:
            answer.response.close()

    def model(self, namespace: str, name: str) -> Object:
        """An LlmJpModel.

        Raises:
            NotFound: there is none of that name, or the cluster does not know the kind.
            KubeError: it may not be looked at, or nobody answers.
        """
        try:
            return self.get(f"{models_path(namespace)}/{name}")
        except NotFound as error:
            if f'"{name}" not found' in str(error):
                raise NotFound(
                    f"no LlmJpModel {name} in namespace {namespace}: `llmjp status -A` lists all"
                ) from error
            raise NotFound(
                "this cluster has no kind LlmJpModel: install the operator, or "
                "`llmjp doctor` tells what is missing"
            ) from error

    def close(self) -> None:
        """Disconnect."""
        self._api.rest_client.pool_manager.clear()

    def now(self) -> float:
        """Seconds since 1970, by the API server's clock as far as it told."""
        return time.time() + self._skew

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Object | None = None,
        *,
        accept: str = JSON,
    ) -> Any:
        headers = {"Accept": accept, "Content-Type": JSON}
        with _errors(path):
            request = self._api.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = self._api.call_api(*request, _request_timeout=CALL_TIMEOUT_S)
            if date := answer.headers.get("Date"):
                self._skew = parsedate_to_datetime(date).timestamp() - time.time()
            if answer.status >= 400:
                raise _refused(answer.status, path, answer.read())
        return answer


class _errors:  # noqa: N801  used like a function
    """Everything that goes wrong in a call, as one of ours."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        if isinstance(error, ApiException) and error.status:
            raise _refused(error.status, self._path, error.body or error.reason or "") from error
        if isinstance(error, HTTPError | OSError | ApiException):
            said = " ".join(str(error).split())
            raise Unreachable(f"the API server cannot be reached: {said}") from error


def _refused(status: int, path: str, body: str | bytes) -> KubeError:
    text = body.decode(errors="replace") if isinstance(body, bytes) else body
    with suppress(ValueError, KeyError, TypeError):
        text = json.loads(text)["message"]
    kind = {401: Forbidden, 403: Forbidden, 404: NotFound}.get(status, KubeError)
    return kind(f"the API server answers {status} for {path}: {text}")


def models_path(namespace: str | None) -> str:
    """Where LlmJpModels are; those of all namespaces for None."""
    return f"/apis/{MODELS}/" + (f"namespaces/{namespace}/" if namespace else "") + "llmjpmodels"
