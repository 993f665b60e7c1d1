"""Which processes make up a cluster of either level, and what they need to find (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hack.local_cluster import components
from hack.local_cluster.components import (
    API_SERVER,
    CONTROLLER_MANAGER,
    KUBELET,
    NODE_NAME,
    PROXY,
    SCHEDULER,
    SERVICE_ACCOUNTS,
)
from hack.local_cluster.credentials import ADMIN, Identity
from hack.local_cluster.plan import HOST_NETWORK, ApiAccess, Plan

if TYPE_CHECKING:
    from pathlib import Path

    from hack.local_cluster.network import Network

API_PORT: Final = 6443
"""Of a node's API server."""
_UPLINK: Final = "uplink0"
_MASKED: Final = {
    "/run/containerd": "run-containerd",
    "/var/lib/cni": "cni-state",
    "/var/lib/kubelet": "kubelet",
    "/var/log/containers": "log-containers",
    "/var/log/pods": "log-pods",
}
"""Fixed paths that containerd, CNI and the kubelet write to, and ours instead."""


_SERVER_NAMES: Final = ("DNS:localhost", "DNS:kubernetes.default.svc", "IP:127.0.0.1")


def identities(network: Network | None) -> tuple[Identity, ...]:
    """Who needs a certificate; `network` is None for a control plane."""
    own = () if network is None else (f"IP:{network.node}", f"IP:{network.first_service}")
    control_plane = (
        Identity(API_SERVER, "/CN=kube-apiserver", (*_SERVER_NAMES, *own)),
        Identity(ADMIN, "/O=system:masters/CN=admin"),
        Identity(SERVICE_ACCOUNTS, "/CN=service-accounts"),
        Identity(CONTROLLER_MANAGER, "/CN=system:kube-controller-manager"),
    )
    if network is None:
        return control_plane
    return (
        *control_plane,
        Identity(SCHEDULER, "/CN=system:kube-scheduler"),
        Identity(KUBELET, f"/O=system:nodes/CN=system:node:{NODE_NAME}"),
        Identity(PROXY, "/CN=system:kube-proxy"),
    )


def control_plane(
    kube: Path, *, folder: Path, logs: Path, port: int, path: str, timeout_s: float
) -> Plan:
    """A cluster without nodes, on `port` of the loopback device; `kube` holds the programs."""
    return Plan(
        folder=str(folder),
        logs=str(logs),
        timeout_s=timeout_s,
        path=path,
        api=_api_access(folder, port),
        components=(
            components.etcd(kube, folder),
            components.api_server(
                kube,
                folder,
                {
                    "secure-port": str(port),
                    "permit-port-sharing": "true",  # the starter holds the port for it
                    "bind-address": "127.0.0.1",
                    "advertise-address": "127.0.0.1",
                    "endpoint-reconciler-type": "none",  # no pod could use a loopback address
                    "service-cluster-ip-range": "10.96.0.0/16",
                },
            ),
            components.controller_manager(kube, folder),
        ),
    )


def node(
    kube: Path, *, folder: Path, logs: Path, network: Network, path: str, timeout_s: float
) -> Plan:
    """A cluster with one node in its own namespaces."""
    certs = folder / "certs"
    masks = tuple((host, str(folder / own)) for host, own in _MASKED.items())
    return Plan(
        folder=str(folder),
        logs=str(logs),
        timeout_s=timeout_s,
        path=path,
        api=_api_access(folder, API_PORT),
        isolated=True,
        device=network.device,
        cgroup=network.cgroup,
        masks=masks,
        setup=(*(("mount", "--bind", own, host) for host, own in masks), *_link_up(network)),
        components=(
            components.etcd(kube, folder),
            components.api_server(
                kube,
                folder,
                {
                    "secure-port": str(API_PORT),
                    "advertise-address": network.node,
                    "service-cluster-ip-range": network.services,
                    "kubelet-client-certificate": f"{certs / ADMIN}.crt",
                    "kubelet-client-key": f"{certs / ADMIN}.key",
                    "kubelet-preferred-address-types": "InternalIP",
                },
            ),
            components.controller_manager(kube, folder),
            *components.node(kube, folder, network),
        ),
    )


def _api_access(folder: Path, port: int) -> ApiAccess:
    certs = folder / "certs"
    return ApiAccess(
        server=f"https://127.0.0.1:{port}",
        authority=str(certs / "ca.crt"),
        certificate=str(certs / f"{ADMIN}.crt"),
        key=str(certs / f"{ADMIN}.key"),
    )


def _link_up(network: Network) -> tuple[tuple[str, ...], ...]:
    def host(*command: str) -> tuple[str, ...]:
        return ("nsenter", f"--net={HOST_NETWORK}", *command)

    peer = ("type", "veth", "peer", "name", network.device, "netns", HOST_NETWORK)
    return (
        ("ip", "link", "set", "lo", "up"),
        ("ip", "link", "add", _UPLINK, *peer),
        ("ip", "address", "add", f"{network.node}/30", "dev", _UPLINK),
        ("ip", "link", "set", _UPLINK, "up"),
        ("ip", "route", "add", "default", "via", network.host),
        host("ip", "address", "add", f"{network.host}/30", "dev", network.device),
        host("ip", "link", "set", network.device, "up"),
        host("ip", "route", "add", network.pods, "via", network.node),
        host("ip", "route", "add", network.services, "via", network.node),
    )
