"""`from_resource`: from an LlmJpModel in a cluster to an address that this process can reach."""

from __future__ import annotations

import asyncio
import weakref
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar

from ._errors import ModelNotFound, ModelNotServed, Unsupported
from ._types import TLS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from os import PathLike

    from ._forward import Background
    from .kube import Api

Object = dict[str, Any]
C = TypeVar("C")

API: Final = "serving.llmjp.dev/v1alpha1"
PLURAL: Final = "llmjpmodels"
HOPELESS: Final = frozenset({"Blocked", "Failed"})
"""Phases that waiting does not change."""
WATCH_S: Final = 300
"""As long as one watch lasts at most."""
AGAIN_S: Final = 1.0
"""Before an API server that ended a watch, or went away, is asked again."""


class Settings(TypedDict, total=False):
    """What `Client` takes besides the endpoint."""

    model: str
    tls: bool | TLS
    metadata: Mapping[str, str] | None
    timeout: float | None
    retries: int
    channel_options: Mapping[str, int | str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What an LlmJpModel says that matters to a client."""

    phase: str = ""
    conditions: tuple[Object, ...] = ()
    current: bool = False
    """Whether the status is about the spec as it is."""
    available: bool = False
    host: str = ""
    """Empty where there is no endpoint yet."""
    port: int = 0
    model: str = ""
    """Name of the Triton model."""
    selector: str = ""
    tls: bool = False

    @property
    def serves(self) -> bool:
        """Whether it can be connected to."""
        return self.available and bool(self.host)

    @property
    def hopeless(self) -> bool:
        """Whether waiting is in vain until somebody changes something."""
        return self.current and not self.available and self.phase in HOPELESS

    def story(self) -> str:
        """Phase, and reason and message of all that does not hold."""
        claims = [
            f"{c.get('type')} is {c.get('status')} ({c.get('reason')}): {c.get('message') or ''}"
            for c in self.conditions
            if c.get("status") != "True"
        ]
        said = "; ".join(dict.fromkeys(claims)) or "the operator has said nothing yet"
        return f"phase {self.phase or 'Pending'}; {said}"


def parse(found: Object, name: str) -> Resource:
    """The object as the API server spells it, however little of it there is (pure)."""
    spec, status = found.get("spec") or {}, found.get("status") or {}
    endpoint = status.get("endpoint") or {}
    host, _, port = str(endpoint.get("grpc") or "").rpartition(":")
    conditions = tuple(status.get("conditions") or ())
    tls = (spec.get("serving") or {}).get("tls") or {}
    return Resource(
        phase=status.get("phase") or "",
        conditions=conditions,
        current=status.get("observedGeneration") == found.get("metadata", {}).get("generation"),
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


def settings_for(resource: Resource, given: Settings, *, other_address: bool) -> Settings:
    """Options for `Client`: the caller's, and what the resource says where those are silent (pure).

    Args:
        resource: what was found.
        given: the caller's.
        other_address: the connection is not made to the name that the certificate is for.
    """
    tls = given.get("tls", resource.tls)
    if tls and other_address:
        named = tls if isinstance(tls, TLS) else TLS()
        tls = named if named.server_name else replace(named, server_name=resource.host)
    return {**given, "model": given.get("model", resource.model), "tls": tls}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The arguments of `from_resource`."""

    name: str
    namespace: str | None
    wait: float
    kubeconfig: str | PathLike[str] | None
    context: str | None


@dataclass(frozen=True, slots=True)
class Found:
    """Where to connect to, and how."""

    endpoint: str
    settings: Settings
    forwarded: bool


def nothing() -> None:
    """What a client without a port-forward has to release."""


def opened(make: Callable[..., C], wanted: Wanted, given: Settings) -> C:
    """A client for what is wanted; closing it ends its port-forward, and so does losing it."""
    behind = _background()
    try:
        found = behind.run(locate(behind, wanted, given))
        return _made(make, found, behind)
    except BaseException:
        behind.close()
        raise


async def opened_async(make: Callable[..., C], wanted: Wanted, given: Settings) -> C:
    """As `opened`; the caller's loop goes on meanwhile."""
    behind = _background()
    try:
        found = await asyncio.wrap_future(behind.submit(locate(behind, wanted, given)))
        return _made(make, found, behind)
    except BaseException:
        behind.close()
        raise


def _made(make: Callable[..., C], found: Found, behind: Background) -> C:
    client: Any = make(found.endpoint, **found.settings)
    if found.forwarded:
        client._release = weakref.finalize(client, behind.close)  # noqa: SLF001  ours
    else:
        behind.close()
    made: C = client
    return made


def _background() -> Background:
    """Where calls to the cluster run.

    Raises:
        Unsupported: the package `kubernetes` is missing.
    """
    try:
        from ._forward import Background
    except ModuleNotFoundError as error:
        missing = "from_resource needs the package kubernetes: pip install 'llmjp-serving[cluster]'"
        raise Unsupported(missing) from error
    return Background()


async def locate(behind: Background, wanted: Wanted, given: Settings) -> Found:
    """Wait until the model serves; where to connect to. A port-forward lasts as long as `behind`.

    Raises:
        ModelNotFound: there is no such LlmJpModel.
        ModelNotServed: it does not serve in time, or waiting is in vain.
        LlmJpError: the API server refuses or does not answer.
    """
    from .kube import Api

    api = await Api.connect(wanted.kubeconfig, wanted.context)
    try:
        namespace = wanted.namespace or api.namespace
        resource = await _served(api, namespace, wanted.name, wanted.wait)
        address = await direct(api, namespace, wanted.name, resource)
        if address is None:
            return await _forwarded(behind, api, (namespace, resource), given)
    except BaseException:
        await api.close()
        raise
    await api.close()
    settings = settings_for(resource, given, other_address=address != resource.host)
    shown = f"[{address}]" if ":" in address else address
    return Found(f"{shown}:{resource.port}", settings, forwarded=False)


async def _served(api: Api, namespace: str, name: str, wait: float) -> Resource:
    last = Resource()
    try:
        async with asyncio.timeout(wait):
            async with aclosing(_versions(api, namespace, name)) as versions:
                async for found in versions:
                    last = parse(found, name)
                    if last.serves:
                        return last
                    if last.hopeless:
                        break
    except TimeoutError:
        pass
    why = "" if last.hopeless else f"not served after {wait:g} s: "
    raise ModelNotServed(
        f"LlmJpModel {namespace}/{name}: {why}{last.story()}", last.phase, last.conditions
    )


async def _versions(api: Api, namespace: str, name: str) -> AsyncGenerator[Object, None]:
    """The object as it is and as it becomes, for ever. Its watch begins where the last one ended.

    Yields:
        It.
    """
    from .kube import ApiUnreachable, NotFound

    path = f"/apis/{API}/namespaces/{namespace}/{PLURAL}"
    reached = False
    while True:
        try:
            found = await api.get(f"{path}/{name}")
            reached = True
            yield found
            query = {
                "fieldSelector": f"metadata.name={name}",
                "resourceVersion": found["metadata"]["resourceVersion"],
            }
            async with aclosing(api.watch(path, query, WATCH_S)) as events:
                async for event in events:
                    if event["type"] not in {"ADDED", "MODIFIED"}:
                        break  # deleted, or the watch is too old: asking says which
                    yield event["object"]
        except NotFound as error:
            missing = f"no LlmJpModel {name} in namespace {namespace}: {error.reason}"
            raise ModelNotFound(missing) from error
        except ApiUnreachable:
            if not reached:
                raise
        await asyncio.sleep(AGAIN_S)


async def direct(api: Api, namespace: str, name: str, resource: Resource) -> str | None:
    """The name or address to connect to; None where no packet of ours gets there.

    Outside, a name counts only where it leads to the Service: some resolvers answer for any name.

    It is the Service's, not that of the headless one, which gRPC would balance over: after a
    rollout a Service leads to the new pod within a second or so, while a name may stand for the old
    one for as long as resolvers remember it (30 s are usual), and what a pod refuses because it is
    about to end is sent again for 3 s.
    """
    from ._errors import LlmJpError

    addresses: set[str] = set()
    with suppress(OSError):
        loop = asyncio.get_running_loop()
        resolved = await loop.getaddrinfo(resource.host, resource.port)
        addresses = {str(entry[4][0]) for entry in resolved}
    if api.inside and addresses:
        return resource.host
    if not api.inside and not addresses:
        return None
    try:
        service = await api.get(f"/api/v1/namespaces/{namespace}/services/{name}")
    except LlmJpError:
        return None
    own = [ip for ip in service["spec"].get("clusterIPs") or () if ip != "None"]
    if addresses:
        return resource.host if addresses.intersection(own) else None
    return own[0] if own else None


async def _forwarded(
    behind: Background, api: Api, target: tuple[str, Resource], given: Settings
) -> Found:
    from ._forward import Forward

    namespace, resource = target
    forward = Forward(api, namespace, resource.selector, resource.port)
    port = await forward.start()
    behind.at_close(forward.close)
    await forward.check()
    settings = settings_for(resource, given, other_address=True)
    return Found(f"127.0.0.1:{port}", settings, forwarded=True)
