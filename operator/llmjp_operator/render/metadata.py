"""Metadata that every object has: name, labels, owners. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llmjp_operator.names import (
    API_VERSION,
    COMPONENT,
    KEY_LABEL,
    KIND,
    MANAGED_BY,
    MODEL_LABEL,
    OPERATOR,
    POD_DIGEST,
    REQUEST_LABEL,
    STORE_LABEL,
    make_store_id,
)

if TYPE_CHECKING:
    from llmjp_operator.api import Model

Object = dict[str, Any]

INSTANCE: Final = "app.kubernetes.io/instance"
NAMING_LABELS: Final = frozenset({INSTANCE, MODEL_LABEL})
"""Labels whose value is the model's name."""


def render_labels(
    model: Model, component: str, *, request: str = "", key: str = "", store: bool = False
) -> dict[str, str]:
    """Return the labels that an object of a model is found by.

    Args:
        model: owner of the object.
        component: serving, build, resolve, collect or store.
        request: digest of the build request.
        key: key of the artefact that is served.
        store: whether it concerns the store, which other models may share.
    """
    found = {
        "app.kubernetes.io/name": "llmjp",
        INSTANCE: model.name,
        MANAGED_BY: OPERATOR,
        COMPONENT: component,
        MODEL_LABEL: model.name,
    }
    if request:
        found[REQUEST_LABEL] = request
    if key:
        found[KEY_LABEL] = key
    if store:
        found[STORE_LABEL] = make_store_id(model.store_claim)
    return found


def get_pod_digest(workload: Object) -> str:
    """Return the digest of the pods of a rendered Deployment or Job."""
    digest: str = workload["metadata"]["annotations"][POD_DIGEST]
    return digest


def render_owner(model: Model) -> Object:
    """Return the owner reference, by which Kubernetes deletes an object with its model."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": model.name,
        "uid": model.uid,
    }


def render_metadata(
    model: Model,
    name: str,
    labelled: dict[str, str],
    annotations: dict[str, str] | None = None,
    *,
    owned: bool = True,
) -> Object:
    """Return the metadata of an object of a model."""
    found: Object = {"name": name, "namespace": model.namespace, "labels": labelled}
    if annotations:
        found["annotations"] = annotations
    if owned:
        found["ownerReferences"] = [render_owner(model)]
    return found
