"""What the keeper is asked to run, as plain data that travels as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

Level = Literal["control-plane", "node"]
"""`control-plane`: etcd, API server, controllers; needs no root. `node`: also a scheduler, and one
node whose pods really run; needs root."""

HOST_NETWORK: Final = "@host-network"
"""In a setup command: replaced by a path to the network namespace the cluster was started from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """How to see that a component does its work."""

    kind: Literal["socket", "api", "http"]
    """`socket` accepts connections; `api`: a GET on the API server gives 200; `http` likewise."""
    target: str
    """Path of a socket, path on the API server, URL."""
    condition: str = ""
    """Kind `api`: this condition of the object must be True as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One process of the cluster."""

    name: str
    """Also of its log, `<name>.log`."""
    command: tuple[str, ...]
    after: tuple[str, ...] = ()
    """Components that must be ready before this one is started."""
    ready: Ready | None = None
    """None: as soon as it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiAccess:
    """How the supervisor asks the API server."""

    server: str
    """URL, as seen from where the components run."""
    authority: str
    certificate: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that keeper and supervisor need to know."""

    folder: str
    """State; removed at the end."""
    logs: str
    timeout_s: float
    """For all components to become ready."""
    path: str
    """$PATH of the components, which see no other variable of the starter's."""
    api: ApiAccess
    components: tuple[Component, ...]
    setup: tuple[tuple[str, ...], ...] = ()
    """Commands to run before the first component, in the node's namespaces."""
    isolated: bool = False
    """Own process, mount and network namespaces: level `node`."""
    device: str = ""
    """Network device that joins the node to its host."""
    cgroup: str = ""
    """Name below the root of every cgroup hierarchy, under which all pods run."""
    masks: tuple[tuple[str, str], ...] = ()
    """Folders of the host over which the node mounts its own: (host's, node's)."""

    def to_json(self) -> str:
        """The inverse of `from_json`."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that `to_json` wrote."""
        fields: dict[str, Any] = json.loads(text)
        fields["api"] = ApiAccess(**fields["api"])
        fields["components"] = tuple(_component(each) for each in fields["components"])
        fields["setup"] = tuple(tuple(command) for command in fields["setup"])
        fields["masks"] = tuple((host, own) for host, own in fields["masks"])
        return cls(**fields)


def _component(fields: dict[str, Any]) -> Component:
    ready = fields["ready"]
    return Component(
        name=fields["name"],
        command=tuple(fields["command"]),
        after=tuple(fields["after"]),
        ready=None if ready is None else Ready(**ready),
    )
