"""Command lines of a cluster's components (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hack.local_cluster.plan import Component, Ready

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hack.local_cluster.network import Network

NODE_NAME: Final = "node0"
"""The one node's name."""
CONTROLLER_MANAGER, SCHEDULER, KUBELET, PROXY = (
    "controller-manager",
    "scheduler",
    "kubelet",
    "proxy",
)
API_SERVER, SERVICE_ACCOUNTS = "apiserver", "service-accounts"
"""Components that the rest refers to; where they have a certificate or a kubeconfig, also of it."""


def _options(values: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"--{name}={value}" for name, value in values.items())


def etcd(kube: Path, folder: Path) -> Component:
    """The store behind the API server; `kube` holds the programs, `folder` the state."""
    # Sockets in our folder, not ports: nobody else can connect, no two clusters collide. The URLs
    # are only names, but etcd insists on host and port.
    socket = folder / "etcd.sock"
    peer = "http://localhost:2380"
    options = {
        "name": "etcd",
        "data-dir": str(folder / "etcd"),
        "listen-client-urls": f"unix://{socket}",
        "advertise-client-urls": "http://localhost:2379",
        "listen-peer-urls": f"unix://{folder / 'etcd-peer.sock'}",
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"etcd={peer}",
        "log-level": "warn",
    }
    return Component(
        name="etcd",
        command=(str(kube / "etcd"), *_options(options), "--unsafe-no-fsync"),
        ready=Ready(kind="socket", target=str(socket)),
    )


def api_server(kube: Path, folder: Path, own: Mapping[str, str]) -> Component:
    """The API server; `own` are the options that differ between levels."""
    certs = folder / "certs"
    options = {
        "etcd-servers": f"unix://{folder / 'etcd.sock'}",
        "client-ca-file": f"{certs}/ca.crt",
        "tls-cert-file": f"{certs / API_SERVER}.crt",
        "tls-private-key-file": f"{certs / API_SERVER}.key",
        "service-account-key-file": f"{certs / SERVICE_ACCOUNTS}.crt",
        "service-account-signing-key-file": f"{certs / SERVICE_ACCOUNTS}.key",
        "service-account-issuer": "https://kubernetes.default.svc",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "profiling": "false",
        **own,
    }
    return Component(
        name=API_SERVER,
        command=(str(kube / "kube-apiserver"), *_options(options)),
        after=("etcd",),
        ready=Ready(kind="api", target="/readyz"),
    )


def controller_manager(kube: Path, folder: Path) -> Component:
    """Controllers of Jobs, Deployments, namespaces, owner references and the rest."""
    certs = folder / "certs"
    options = {
        "kubeconfig": str(folder / f"{CONTROLLER_MANAGER}.kubeconfig"),
        "service-account-private-key-file": f"{certs / SERVICE_ACCOUNTS}.key",
        "root-ca-file": f"{certs}/ca.crt",
        "use-service-account-credentials": "true",
        "kube-api-qps": "1000",  # the default of 20 makes a start of its 40 controllers take 5 s
        "kube-api-burst": "1000",
        "leader-elect": "false",
        "secure-port": "0",
        "profiling": "false",
        "flex-volume-plugin-dir": str(folder / "volume-plugins"),  # made by it: not in /usr
    }
    return Component(
        name=CONTROLLER_MANAGER,
        command=(str(kube / "kube-controller-manager"), *_options(options)),
        after=(API_SERVER,),
        # Its last act at start that everybody waits for: without it no pod can be created.
        ready=Ready(kind="api", target="/api/v1/namespaces/default/serviceaccounts/default"),
    )


def node(
    kube: Path, folder: Path, network: Network
) -> tuple[Component, Component, Component, Component]:
    """What runs pods: containerd, scheduler, kubelet, and kube-proxy for Services."""
    socket = folder / "containerd.sock"
    scheduler = {
        "kubeconfig": str(folder / f"{SCHEDULER}.kubeconfig"),
        "leader-elect": "false",
        "secure-port": "0",
    }
    kubelet = {
        "kubeconfig": str(folder / f"{KUBELET}.kubeconfig"),
        "config": str(folder / "kubelet.json"),
        "hostname-override": NODE_NAME,
        "node-ip": network.node,
    }
    proxy = {
        "kubeconfig": str(folder / f"{PROXY}.kubeconfig"),
        "proxy-mode": "iptables",
        "hostname-override": NODE_NAME,
        "cluster-cidr": network.pods,
        "conntrack-max-per-core": "0",  # the host's settings stay as they are
        "conntrack-tcp-timeout-established": "0",
        "conntrack-tcp-timeout-close-wait": "0",
    }
    return (
        Component(
            name="containerd",
            command=("containerd", "--config", str(folder / "containerd.toml")),
            ready=Ready(kind="socket", target=str(socket)),
        ),
        Component(
            name=SCHEDULER,
            command=(str(kube / "kube-scheduler"), *_options(scheduler)),
            after=(API_SERVER,),
        ),
        Component(
            name=KUBELET,
            command=(str(kube / "kubelet"), *_options(kubelet)),
            after=(API_SERVER, "containerd"),
            ready=Ready(kind="api", target=f"/api/v1/nodes/{NODE_NAME}", condition="Ready"),
        ),
        Component(
            name=PROXY,
            command=(str(kube / "kube-proxy"), *_options(proxy)),
            after=(API_SERVER,),
            ready=Ready(kind="http", target="http://127.0.0.1:10256/healthz"),
        ),
    )
