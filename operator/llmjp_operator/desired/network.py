"""Who may talk to the pods, and whom they may talk to. Pure.

Policies are enforced by the cluster's network plugin; where it does none they are there and do
nothing. Probes come from the node itself, which no policy keeps out
(kubernetes.io/docs/concepts/services-networking/network-policies).
"""

from __future__ import annotations

import copy
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from llmjp_operator.desired.metadata import labels, metadata
from llmjp_operator.desired.service import selector
from llmjp_operator.desired.serving import GRPC, HTTP, METRICS
from llmjp_operator.names import BUILD_SUFFIX, COMPONENT, MODEL_LABEL

if TYPE_CHECKING:
    from llmjp_operator.api import Model
    from llmjp_operator.settings import Settings

Object = dict[str, Any]

BUILDERS: Final = ("build", "collect", "resolve")
"""Components whose pods fetch and build."""
_HTTPS: Final = 443
_DNS: Final = 53


def serving_policy(model: Model, settings: Settings) -> Object | None:
    """Clients reach the serving ports, Prometheus the metrics, and the pods reach nobody."""
    network = settings.network
    if not network.enabled:
        return None
    clients = _peers(network.serving_from) or [{"podSelector": {}}]
    rules = [
        {"from": clients, "ports": [_tcp(GRPC), _tcp(HTTP)]},
        {"from": [*_peers(network.metrics_from), *clients], "ports": [_tcp(METRICS)]},
    ]
    return _policy(model, model.name, selector(model), ingress=rules, egress=[])


def builders_policy(model: Model, settings: Settings) -> Object | None:
    """Builds reach a hub outside the cluster, and nobody reaches them."""
    network = settings.network
    if not network.enabled:
        return None
    # Addresses of DNS are the cluster's own, and where it runs differs: any peer, but these ports.
    rules: list[Object] = [{"ports": [{"port": _DNS, "protocol": "UDP"}, _tcp(_DNS)]}]
    if model.spec.source.hugging_face is not None:
        rules.append({"to": _outside(network.cluster_cidrs), "ports": _hub_ports(model)})
    rules += _peers(network.build_egress)
    pods: Object = {
        "matchLabels": {MODEL_LABEL: model.name},
        "matchExpressions": [{"key": COMPONENT, "operator": "In", "values": list(BUILDERS)}],
    }
    return _policy(model, f"{model.name}{BUILD_SUFFIX}", pods, ingress=[], egress=rules)


def _policy(
    model: Model, name: str, pods: Object, *, ingress: list[Object], egress: list[Object]
) -> Object:
    chosen = pods if "matchLabels" in pods else {"matchLabels": pods}
    spec: Object = {"podSelector": chosen, "policyTypes": ["Ingress", "Egress"]}
    # An empty list is stored as none at all, and means the same.
    spec |= {"ingress": ingress} if ingress else {}
    spec |= {"egress": egress} if egress else {}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(model, name, labels(model, "serving")),
        "spec": spec,
    }


def _outside(cidrs: tuple[str, ...]) -> list[Object]:
    """Everywhere but the cluster's own ranges."""
    peers = []
    for everywhere, version in (("0.0.0.0/0", 4), ("::/0", 6)):
        inside = sorted(cidr for cidr in cidrs if ip_network(cidr).version == version)
        block: Object = {"cidr": everywhere}
        peers.append({"ipBlock": block | ({"except": inside} if inside else {})})
    return peers


def _hub_ports(model: Model) -> list[Object]:
    hub = model.spec.source.hugging_face
    endpoint = urlsplit((hub.endpoint if hub else None) or "https://hub")
    port = endpoint.port or (80 if endpoint.scheme == "http" else _HTTPS)
    return [_tcp(number) for number in sorted({_HTTPS, port})]


def _tcp(port: int) -> Object:
    return {"port": port, "protocol": "TCP"}


def _peers(given: tuple[Any, ...]) -> list[Object]:
    return [copy.deepcopy(dict(item)) for item in given]
