"""The volume of a store, and the ConfigMap that records what is in it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmjp_operator.names import MODEL_LABEL, OWNER, make_owner_id, make_record_name
from llmjp_operator.render.metadata import render_labels, render_metadata
from llmjp_operator.render.quantities import normalize_quantity

if TYPE_CHECKING:
    from llmjp_operator.api import Model
    from llmjp_operator.observe.store_record import StoreRecord

Object = dict[str, Any]


def render_claim(model: Model) -> Object | None:
    """Return the claim to create for a model; None if it uses an existing one.

    With onDelete Retain it has no owner, so that deleting the model keeps it.
    """
    storage = model.spec.storage
    if storage.size is None:
        return None
    spec: Object = {
        "accessModes": [storage.created_access_mode],
        "resources": {"requests": {"storage": normalize_quantity(storage.size)}},
    }
    if storage.storage_class_name is not None:
        spec["storageClassName"] = storage.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": render_metadata(
            model,
            model.store_claim,
            render_labels(model, "store", store=True),
            {OWNER: make_owner_id(model.namespace, model.name)},
            owned=_is_owned(model),
        ),
        "spec": spec,
    }


def render_record(model: Model, known: StoreRecord) -> Object:
    """Return the ConfigMap with the record of a store, which lives as long as the store."""
    labelled = render_labels(model, "store", store=True)
    if model.spec.storage.existing_claim is not None:
        # No model's in particular: every writer must render the same labels.
        for name in (MODEL_LABEL, "app.kubernetes.io/instance"):
            del labelled[name]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": render_metadata(
            model,
            make_record_name(model.store_claim),
            labelled,
            {OWNER: make_owner_id(model.namespace, model.store_claim)},
            owned=_is_owned(model),
        ),
        "data": known.to_data(),
    }


def _is_owned(model: Model) -> bool:
    """Return whether the store is deleted with its model."""
    return model.spec.storage.on_delete == "Delete"
