"""`from_resource`: from an LlmJpModel in a cluster to an address that this process can reach."""

from __future__ import annotations

import asyncio
import weakref
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar

from ._background import BackgroundLoop
from ._errors import LlmJpError, ModelNotServed
from ._types import TLS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from os import PathLike

    from .kube import KubeApi

Object = dict[str, Any]
C = TypeVar("C")

ABNORMAL = {"Reconciling", "Stalled"}
"""Conditions that are news where they hold."""
TERMINAL_PHASES: Final = frozenset({"Blocked", "Failed"})
"""Phases that waiting does not change."""
WATCH_S: Final = 300
"""The longest that one watch lasts."""
RETRY_S: Final = 1.0
"""Pause before a new watch, and between calls to an API server that does not answer."""


class ClientSettings(TypedDict, total=False):
    """Arguments of `Client` besides the endpoint."""

    model: str
    tls: bool | TLS
    metadata: Mapping[str, str] | None
    token: Callable[[], str] | None
    timeout: float | None
    retries: int
    channel_options: Mapping[str, int | str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedModel:
    """The fields of an LlmJpModel that matter to a client."""

    phase: str = ""
    conditions: tuple[Object, ...] = ()
    current: bool = False
    """Whether the status is about the present spec."""
    available: bool = False
    host: str = ""
    """Empty where there is no endpoint yet."""
    port: int = 0
    model: str = ""
    """Name of the Triton model."""
    selector: str = ""
    """Label selector of the pods that serve."""
    tls: bool = False

    @property
    def serves(self) -> bool:
        """True if a client can connect to it."""
        return self.available and bool(self.host)

    @property
    def stuck(self) -> bool:
        """True if it cannot serve before somebody changes something."""
        return self.current and not self.available and self.phase in TERMINAL_PHASES

    def explain(self) -> str:
        """Return the phase, and reason and message of every condition that is not as wished."""
        claims = [
            f"{c.get('type')} is {c.get('status')} ({c.get('reason')}): {c.get('message') or ''}"
            for c in self.conditions
            if (c.get("status") == "True") == (c.get("type") in ABNORMAL)
        ]
        claims = [claim.removesuffix(": ") for claim in claims]
        details = "; ".join(dict.fromkeys(claims)) or "the operator has not reported anything yet"
        return f"phase {self.phase or 'Pending'}; {details}"


def parse_model(body: Object, name: str) -> ObservedModel:
    """Read an object as the API server spells it, however incomplete (pure)."""
    spec, status = body.get("spec") or {}, body.get("status") or {}
    endpoint = status.get("endpoint") or {}
    host, _, port = str(endpoint.get("grpc") or "").rpartition(":")
    conditions = tuple(status.get("conditions") or ())
    tls = (spec.get("serving") or {}).get("tls") or {}
    return ObservedModel(
        phase=status.get("phase") or "",
        conditions=conditions,
        current=status.get("observedGeneration") == body.get("metadata", {}).get("generation"),
        available=any(
            (c.get("type"), c.get("status")) == ("Available", "True") for c in conditions
        ),
        host=host,
        port=int(port) if port.isdecimal() else 0,
        model=endpoint.get("model") or "llmjp",
        selector=status.get("selector")
        or f"serving.llmjp.dev/model={name},app.kubernetes.io/component=serving",
        tls=bool(tls.get("secretName")),
    )


def merge_settings(
    model: ObservedModel, given: ClientSettings, *, other_address: bool
) -> ClientSettings:
    """Return the caller's settings, completed by what the model says (pure).

    Args:
        model: what was observed.
        given: the caller's settings.
        other_address: the client connects to another name than the certificate is for.
    """
    tls = given.get("tls", model.tls)
    if tls and other_address:
        named = tls if isinstance(tls, TLS) else TLS()
        tls = named if named.server_name else replace(named, server_name=model.host)
    return {**given, "model": given.get("model", model.model), "tls": tls}


@dataclass(frozen=True, slots=True)
class ModelQuery:
    """The arguments of `from_resource`."""

    name: str
    namespace: str | None
    wait: float
    kubeconfig: str | PathLike[str] | None
    context: str | None


@dataclass(frozen=True, slots=True)
class ResolvedEndpoint:
    """An address to connect to, and the settings for it."""

    endpoint: str
    settings: ClientSettings
    forwarded: bool


def open_client(make: Callable[..., C], query: ModelQuery, given: ClientSettings) -> C:
    """Return a client for the model; closing or losing it ends its port-forward."""
    background = BackgroundLoop()
    try:
        resolved = background.run(resolve_endpoint(background, query, given))
        return _build_client(make, resolved, background)
    except BaseException:
        background.close()
        raise


async def open_client_async(make: Callable[..., C], query: ModelQuery, given: ClientSettings) -> C:
    """Return a client as `open_client` does, without blocking the caller's loop."""
    background = BackgroundLoop()
    try:
        work = background.submit(resolve_endpoint(background, query, given))
        return _build_client(make, await asyncio.wrap_future(work), background)
    except BaseException:
        background.close()
        raise


def _build_client(
    make: Callable[..., C], resolved: ResolvedEndpoint, background: BackgroundLoop
) -> C:
    client: Any = make(resolved.endpoint, **resolved.settings)
    if resolved.forwarded:
        client._close_port_forward = weakref.finalize(client, background.close)  # noqa: SLF001  ours
    else:
        background.close()
    made: C = client
    return made


async def resolve_endpoint(
    background: BackgroundLoop, query: ModelQuery, given: ClientSettings
) -> ResolvedEndpoint:
    """Wait until the model serves; return where to connect to.

    A port-forward that this opens lasts until `background` is closed.

    Raises:
        ModelNotFound: there is no such LlmJpModel.
        ModelNotServed: it does not serve in time, or cannot before somebody acts.
        Unsupported: the extra `cluster` is not installed.
        LlmJpError: the API server refuses or does not answer.
    """
    from .kube import KubeApi

    api = await KubeApi.connect(query.kubeconfig, query.context)
    try:
        namespace = query.namespace or api.namespace
        model = await _wait_until_served(api, namespace, query.name, query.wait)
        address = await find_direct_address(api, namespace, query.name, model)
        if address is None:
            return await _open_port_forward(background, api, (namespace, model), given)
    except BaseException:
        await api.close()
        raise
    await api.close()
    settings = merge_settings(model, given, other_address=address != model.host)
    host = f"[{address}]" if ":" in address else address
    return ResolvedEndpoint(f"{host}:{model.port}", settings, forwarded=False)


async def _wait_until_served(api: KubeApi, namespace: str, name: str, wait: float) -> ObservedModel:
    last = ObservedModel()
    try:
        async with asyncio.timeout(wait):
            async with aclosing(_watch_model(api, namespace, name)) as versions:
                async for body in versions:
                    last = parse_model(body, name)
                    if last.serves:
                        return last
                    if last.stuck:
                        break
    except TimeoutError:
        pass
    waited = "" if last.stuck else f"not served after {wait:g} s: "
    raise ModelNotServed(
        f"LlmJpModel {namespace}/{name}: {waited}{last.explain()}", last.phase, last.conditions
    )


async def _watch_model(api: KubeApi, namespace: str, name: str) -> AsyncGenerator[Object, None]:
    """Yield the object as it is and whenever it changes, without end.

    Yields:
        The object.
    """
    from .kube import KubeApiFailed, format_models_path

    reached = False
    while True:
        try:
            body = await api.get_model(namespace, name)
            reached = True
            yield body
            query = {
                "fieldSelector": f"metadata.name={name}",
                "resourceVersion": body["metadata"]["resourceVersion"],
            }
            events = api.watch(format_models_path(namespace), query, WATCH_S)
            async with aclosing(events):
                async for event in events:
                    if event["type"] not in {"ADDED", "MODIFIED"}:
                        break  # deleted, or the watch is too old: the next get says which
                    yield event["object"]
        except KubeApiFailed:
            if not reached:
                raise
        await asyncio.sleep(RETRY_S)


async def find_direct_address(
    api: KubeApi, namespace: str, name: str, model: ObservedModel
) -> str | None:
    """Return the name or address to connect to; None where this process has no route to it.

    Outside, a name counts only where it leads to the Service: some resolvers answer for any name.

    The address is the Service's, not that of the headless one, which gRPC would balance over:
    after a rollout a Service leads to the new pod within a second or so, while a name may stand for
    the old one for as long as resolvers cache it (30 s are usual), and what a pod refuses because
    it is shutting down is sent again for 3 s.
    """
    addresses: set[str] = set()
    with suppress(OSError):
        loop = asyncio.get_running_loop()
        resolved = await loop.getaddrinfo(model.host, model.port)
        addresses = {str(entry[4][0]) for entry in resolved}
    if api.in_cluster and addresses:
        return model.host
    if not api.in_cluster and not addresses:
        return None
    try:
        service = await api.get(f"/api/v1/namespaces/{namespace}/services/{name}")
    except LlmJpError:
        return None
    own = [ip for ip in service["spec"].get("clusterIPs") or () if ip != "None"]
    if addresses:
        return model.host if addresses.intersection(own) else None
    return own[0] if own else None


async def _open_port_forward(
    background: BackgroundLoop,
    api: KubeApi,
    target: tuple[str, ObservedModel],
    given: ClientSettings,
) -> ResolvedEndpoint:
    from ._port_forward import PortForward

    namespace, model = target
    forward = PortForward(api, namespace, model.selector, model.port)
    port = await forward.start()
    background.call_at_close(forward.close)
    await forward.check_access()
    settings = merge_settings(model, given, other_address=True)
    return ResolvedEndpoint(f"127.0.0.1:{port}", settings, forwarded=True)
