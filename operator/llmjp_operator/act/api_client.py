"""Client of the API server: the only module that writes to it. Objects are plain dicts.

One way to write, server-side apply with our field manager, and one way to remove. Every error is
`ApiRefused` or `ApiUnreachable`; the queue retries, not this module.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import aiohttp
from kubernetes.aio.client.exceptions import ApiException

from llmjp_operator.errors import ApiRefused, ApiUnreachable
from llmjp_operator.names import API_VERSION, FIELD_MANAGER, PLURAL

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Mapping

    from kubernetes.aio.client import ApiClient

Object = dict[str, Any]

CALL_TIMEOUT_S: Final = 30.0
"""Limit of every call; the queue retries."""
CALLS_AT_ONCE: Final = 16
"""Most connections at once, so that a thousand models do not flood the API server."""
METADATA_AT_ONCE: Final = 100
"""Objects per page of a list of metadata; most of it is about who owns which field."""
EVENTS_AT_ONCE: Final = 100
"""Events per page."""
_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"
_JSON: Final = "application/json, */*"
_METADATA: Final = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
_MAX_MESSAGE: Final = 500
"""Characters of the API server's message that are kept."""

PLURALS: Final[Mapping[str, tuple[str, str]]] = {
    "ConfigMap": ("api/v1", "configmaps"),
    "ControllerRevision": ("apis/apps/v1", "controllerrevisions"),
    "Deployment": ("apis/apps/v1", "deployments"),
    "Job": ("apis/batch/v1", "jobs"),
    "Lease": ("apis/coordination.k8s.io/v1", "leases"),
    "LlmJpModel": (f"apis/{API_VERSION}", PLURAL),
    "NetworkPolicy": ("apis/networking.k8s.io/v1", "networkpolicies"),
    "PersistentVolumeClaim": ("api/v1", "persistentvolumeclaims"),
    "Pod": ("api/v1", "pods"),
    "PodDisruptionBudget": ("apis/policy/v1", "poddisruptionbudgets"),
    "Service": ("api/v1", "services"),
    "ServiceAccount": ("api/v1", "serviceaccounts"),
}
"""Where each kind is: API and plural."""


class Cluster(Protocol):
    """The part of an API server that a reconcile needs."""

    async def apply(
        self, wanted: Object, *, manager: str = FIELD_MANAGER, status: bool = False
    ) -> Object:
        """Apply an object server-side; return it as it is stored then."""

    async def delete(self, kind: str, namespace: str, name: str, uid: str = "") -> None:
        """Delete an object, if it is the one of that uid; one that is gone is no error."""

    async def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """Return an object, or None."""

    async def list_nodes(self) -> list[Object] | None:
        """Return all nodes; None where they may not be listed."""

    async def list_metadata(
        self, kind: str, namespace: str, selector: str
    ) -> tuple[int, list[Object]]:
        """Return the list's version and the metadata of all objects; an empty namespace is all."""

    async def read_log(self, namespace: str, pod: str, container: str, lines: int) -> str:
        """Return the last lines of a container's log; empty where there is none."""

    async def list_events(self, namespace: str, uid: str) -> list[Object]:
        """Return the events about one object; none where they may not be listed."""

    async def post_event(self, event: Object) -> None:
        """Post an event; the same one again is counted, not repeated."""


@dataclass(frozen=True, slots=True)
class KubeCluster:
    """A real API server."""

    api: ApiClient
    limit: asyncio.Semaphore
    on_call: Callable[[str, str], None] = lambda _verb, _kind: None
    """Is told of every call before it is sent: its verb and the kind of object. It may raise."""

    async def apply(
        self, wanted: Object, *, manager: str = FIELD_MANAGER, status: bool = False
    ) -> Object:
        """See `Cluster`."""
        kind, metadata = wanted["kind"], wanted["metadata"]
        path = _object_path(kind, metadata["namespace"], metadata["name"])
        path += "/status" if status else ""
        options = {"fieldManager": manager, "force": "true"}
        text = await self._call("PATCH", kind, path, options, body=wanted, content_type=_APPLY)
        applied: Object = json.loads(text)
        return applied

    async def delete(self, kind: str, namespace: str, name: str, uid: str = "") -> None:
        """See `Cluster`. What it owns goes as well, in the background."""
        options: Object = {"propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            await self._call("DELETE", kind, _object_path(kind, namespace, name), body=options)
        except ApiRefused as exc:
            # 409: another object has the name by now.
            if exc.status not in {404, 409}:
                raise

    async def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """See `Cluster`."""
        try:
            text = await self._call("GET", kind, _object_path(kind, namespace, name))
        except ApiRefused as exc:
            if exc.status != 404:
                raise
            return None
        found: Object = json.loads(text)
        return found

    async def create(self, made: Object) -> Object:
        """See `leadership.Leases`."""
        kind, metadata = made["kind"], made["metadata"]
        path = _object_path(kind, metadata["namespace"], metadata["name"]).rpartition("/")[0]
        stored: Object = json.loads(await self._call("POST", kind, path, body=made))
        return stored

    async def replace(self, changed: Object) -> Object:
        """See `leadership.Leases`."""
        kind, metadata = changed["kind"], changed["metadata"]
        path = _object_path(kind, metadata["namespace"], metadata["name"])
        stored: Object = json.loads(await self._call("PUT", kind, path, body=changed))
        return stored

    async def list_nodes(self) -> list[Object] | None:
        """See `Cluster`."""
        try:
            found = json.loads(await self._call("GET", "Node", "/api/v1/nodes"))
        except ApiRefused as exc:
            if exc.status != 403:
                raise
            return None
        return list(found["items"])

    async def list_metadata(
        self, kind: str, namespace: str, selector: str
    ) -> tuple[int, list[Object]]:
        """See `Cluster`. All pages of a list have the version of the first."""
        version, items = 0, []
        async for page in self._list_pages(
            kind,
            _collection_path(kind, namespace),
            _list_query(selector, METADATA_AT_ONCE),
            accept=_METADATA,
        ):
            version = int(page["metadata"]["resourceVersion"])
            items += [{"metadata": _keep_identity(item["metadata"])} for item in page["items"]]
        return version, items

    async def list_objects(
        self, kind: str, namespace: str, selector: str, chunk: int
    ) -> AsyncIterator[Object]:
        """See `initial_list.ObjectLister`."""
        async for page in self._list_pages(
            kind, _collection_path(kind, namespace), _list_query(selector, chunk)
        ):
            for item in page["items"]:
                yield item

    async def _list_pages(
        self, kind: str, path: str, query: dict[str, str], *, accept: str = _JSON
    ) -> AsyncIterator[Object]:
        while True:
            text = await self._call("GET", kind, path, query, accept=accept)
            page: Object = json.loads(text)
            # Where there are none, a list of metadata has null.
            yield {**page, "items": page["items"] or []}
            more = page["metadata"].get("continue")
            if not more:
                return
            query["continue"] = more

    async def read_log(self, namespace: str, pod: str, container: str, lines: int) -> str:
        """See `Cluster`."""
        path = f"{_object_path('Pod', namespace, pod)}/log"
        options = {"container": container, "tailLines": str(lines), "limitBytes": "65536"}
        try:
            return await self._call("GET", "Log", path, options)
        except ApiRefused as exc:
            # 400: its container has not started, or its node does not answer.
            if exc.status not in {400, 404}:
                raise
            return ""

    async def list_events(self, namespace: str, uid: str) -> list[Object]:
        """See `Cluster`."""
        query = {"limit": str(EVENTS_AT_ONCE), "fieldSelector": f"involvedObject.uid={uid}"}
        path = f"/api/v1/namespaces/{namespace}/events"
        try:
            return [
                e async for page in self._list_pages("Event", path, query) for e in page["items"]
            ]
        except ApiRefused as exc:
            if exc.status != 403:
                raise
            return []

    async def post_event(self, event: Object) -> None:
        """See `Cluster`."""
        namespace, name = event["metadata"]["namespace"], event["metadata"]["name"]
        path = f"/api/v1/namespaces/{namespace}/events"
        try:
            await self._call("POST", "Event", path, body=event)
        except ApiRefused as exc:
            if exc.status != 409:
                raise
            known = json.loads(await self._call("GET", "Event", f"{path}/{name}"))
            seen = {"count": known.get("count", 1) + 1, "lastTimestamp": event["lastTimestamp"]}
            await self._call("PATCH", "Event", f"{path}/{name}", body=seen, content_type=_MERGE)

    async def _call(
        self,
        method: str,
        kind: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Object | None = None,
        content_type: str = "application/json",
        accept: str = _JSON,
    ) -> str:
        """Call the API server; return the answer's text.

        Raises:
            ApiRefused: the answer is an error.
            ApiUnreachable: there is none in time.
        """
        what = f"{method} {path}"
        try:
            async with self.limit:
                request = await self.api.param_serialize(
                    method,
                    path,
                    query_params=list((query or {}).items()),
                    header_params={"Content-Type": content_type, "Accept": accept},
                    body=body,
                    auth_settings=["BearerToken"],
                )
                self.on_call(method, kind)
                answer = await self.api.call_api(*request, _request_timeout=CALL_TIMEOUT_S)
                data = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise ApiUnreachable(f"{what}: {type(exc).__name__}: {exc}") from exc
        except ApiException as exc:
            message = _parse_message(exc.body or exc.reason or "")
            raise ApiRefused(exc.status or 0, what, message) from exc
        text = (data or b"").decode(errors="replace")
        if answer.status >= 400:
            raise ApiRefused(answer.status, what, _parse_message(text))
        return text


def _object_path(kind: str, namespace: str, name: str) -> str:
    api, plural = PLURALS[kind]
    return f"/{api}/namespaces/{namespace}/{plural}/{name}"


def _list_query(selector: str, chunk: int) -> dict[str, str]:
    return {"limit": str(chunk)} | ({"labelSelector": selector} if selector else {})


def _keep_identity(metadata: Object) -> Object:
    return {name: metadata[name] for name in ("namespace", "name", "uid") if name in metadata}


def _collection_path(kind: str, namespace: str) -> str:
    api, plural = PLURALS[kind]
    return f"/{api}/namespaces/{namespace}/{plural}" if namespace else f"/{api}/{plural}"


def _parse_message(text: str | bytes) -> str:
    """Return the message of a Status object, or the text itself, on one line."""
    plain = text.decode(errors="replace") if isinstance(text, bytes) else text
    try:
        document = json.loads(plain)
        plain = document["message"] if isinstance(document, dict) else plain
    except (ValueError, KeyError):
        pass
    return " ".join(str(plain).split())[:_MAX_MESSAGE]
