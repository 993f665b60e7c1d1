"""Services, ServiceAccount and PodDisruptionBudget of a model. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmjp_builder.contracts.defaults import GRPC_PORT, HTTP_PORT, METRICS_PORT
from llmjp_operator.names import (
    COMPONENT,
    MODEL_LABEL,
    make_account_name,
    make_headless_name,
)
from llmjp_operator.render.metadata import render_labels, render_metadata

if TYPE_CHECKING:
    from llmjp_operator.api import Model

Object = dict[str, Any]


def get_selector(model: Model) -> dict[str, str]:
    """Return the labels that select the serving pods."""
    return {COMPONENT: "serving", MODEL_LABEL: model.name}


def render_services(model: Model) -> tuple[Object, Object]:
    """Return the Service with one address, and the headless one that resolves to each pod."""
    wanted = model.spec.serving.service
    annotations = dict(wanted.annotations or {})
    one = _render_service(model, model.name, {"type": wanted.type}, annotations)
    each = _render_service(model, make_headless_name(model.name), {"clusterIP": "None"}, {})
    return one, each


def _render_service(model: Model, name: str, spec: Object, annotations: dict[str, str]) -> Object:
    # appProtocol of HTTP/2 without TLS (kubernetes.io/docs).
    tls = bool(model.spec.serving.tls.secret_name)
    ports = [
        ("grpc", GRPC_PORT, "https" if tls else "kubernetes.io/h2c"),
        ("metrics", METRICS_PORT, "http"),
    ]
    if not tls:
        ports.insert(1, ("http", HTTP_PORT, "http"))
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": render_metadata(model, name, render_labels(model, "serving"), annotations),
        "spec": {
            **spec,
            "selector": get_selector(model),
            "ports": [
                {
                    "name": port,
                    "port": number,
                    "targetPort": port,
                    "protocol": "TCP",
                    "appProtocol": protocol,
                }
                for port, number, protocol in ports
            ],
        },
    }


def render_service_account(model: Model) -> Object:
    """Return the ServiceAccount of the model's pods: no rights, and no token is mounted."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": render_metadata(
            model, make_account_name(model.name), render_labels(model, "serving")
        ),
        "automountServiceAccountToken": False,
    }


def render_disruption_budget(model: Model) -> Object:
    """Return the PodDisruptionBudget: drains evict one pod at a time, unready pods always."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": render_metadata(model, model.name, render_labels(model, "serving")),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": get_selector(model)},
        },
    }
