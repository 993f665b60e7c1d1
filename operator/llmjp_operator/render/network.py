"""NetworkPolicies of serving and build pods. Pure.

The cluster's network plugin enforces them; without support there they have no effect. Probes come
from the node itself, which no policy blocks
(kubernetes.io/docs/concepts/services-networking/network-policies).
"""

from __future__ import annotations

import copy
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from llmjp_builder.contracts.defaults import GRPC_PORT, HTTP_PORT, METRICS_PORT
from llmjp_operator.names import COMPONENT, MODEL_LABEL, make_builder_policy_name
from llmjp_operator.render.metadata import render_labels, render_metadata
from llmjp_operator.render.service import get_selector

if TYPE_CHECKING:
    from llmjp_operator.api import Model
    from llmjp_operator.settings import Settings

Object = dict[str, Any]

BUILDERS: Final = ("build", "collect", "resolve")
"""Components of the pods of Jobs."""
_HTTPS: Final = 443
_DNS: Final = 53


def render_serving_policy(model: Model, settings: Settings) -> Object | None:
    """Return the policy of serving pods: clients and Prometheus may connect, nothing may leave.

    Clients are the namespace, or whoever the platform names; of a LoadBalancer or NodePort anybody,
    unless the platform names them.
    """
    network = settings.network
    if not network.enabled:
        return None
    clients = network.serving_from or ({"podSelector": {}},)
    rules: list[Object] = [
        {
            "from": _copy_peers(clients),
            "ports": [_render_tcp_port(GRPC_PORT), _render_tcp_port(HTTP_PORT)],
        },
        {
            "from": _copy_peers((*network.metrics_from, *clients)),
            "ports": [_render_tcp_port(METRICS_PORT)],
        },
    ]
    if model.spec.serving.service.type != "ClusterIP" and not network.serving_from:
        # A published Service is for clients outside; where they come from, the load balancer says.
        del rules[0]["from"]
    named = render_metadata(model, model.name, render_labels(model, "serving"))
    return _render_policy(named, {"matchLabels": get_selector(model)}, ingress=rules, egress=[])


def render_builder_policy(model: Model, settings: Settings) -> Object | None:
    """Return the policy of build pods: out to a hub beyond the cluster, nothing in."""
    network = settings.network
    if not network.enabled:
        return None
    # DNS runs at different places in different clusters: any peer, but only these ports.
    rules: list[Object] = [{"ports": [{"port": _DNS, "protocol": "UDP"}, _render_tcp_port(_DNS)]}]
    outside = _render_outside_peers(network.cluster_cidrs)
    if model.spec.source.hugging_face is not None and outside:
        rules.append({"to": outside, "ports": _render_hub_ports(model)})
    rules += _copy_peers(network.build_egress)
    pods: Object = {
        "matchLabels": {MODEL_LABEL: model.name},
        "matchExpressions": [{"key": COMPONENT, "operator": "In", "values": list(BUILDERS)}],
    }
    named = render_metadata(
        model, make_builder_policy_name(model.name), render_labels(model, "build")
    )
    return _render_policy(named, pods, ingress=[], egress=rules)


def _render_policy(
    named: Object, pods: Object, *, ingress: list[Object], egress: list[Object]
) -> Object:
    spec: Object = {"podSelector": pods, "policyTypes": ["Ingress", "Egress"]}
    # The API server stores an empty list as none, which means the same.
    spec |= {"ingress": ingress} if ingress else {}
    spec |= {"egress": egress} if egress else {}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": named,
        "spec": spec,
    }


def _render_outside_peers(cidrs: tuple[str, ...]) -> list[Object]:
    """Return peers outside the cluster's ranges; none if these cover everything."""
    peers: list[Object] = []
    for everywhere, version in (("0.0.0.0/0", 4), ("::/0", 6)):
        inside = sorted({cidr for cidr in cidrs if ip_network(cidr).version == version})
        if everywhere in inside:
            continue
        block: Object = {"cidr": everywhere}
        peers.append({"ipBlock": block | ({"except": inside} if inside else {})})
    return peers


def _render_hub_ports(model: Model) -> list[Object]:
    hub = model.spec.source.hugging_face
    endpoint = urlsplit((hub.endpoint if hub else None) or "https://hub")
    port = endpoint.port or (80 if endpoint.scheme == "http" else _HTTPS)
    return [_render_tcp_port(number) for number in sorted({_HTTPS, port})]


def _render_tcp_port(port: int) -> Object:
    return {"port": port, "protocol": "TCP"}


def _copy_peers(given: tuple[Any, ...]) -> list[Object]:
    return [copy.deepcopy(dict(item)) for item in given]
