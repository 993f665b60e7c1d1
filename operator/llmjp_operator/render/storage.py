"""The volume of a store, and the ConfigMap that records what is in it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmjp_operator.names import MODEL_LABEL, make_record_name
from llmjp_operator.render.metadata import render_labels, render_metadata
from llmjp_operator.render.quantities import normalize_quantity

if TYPE_CHECKING:
    from llmjp_operator.api import Model
    from llmjp_operator.observe.store_record import StoreRecord

Object = dict[str, Any]


def render_claim(model: Model) -> Object | None:
    """The claim that is made for a model; None where it uses one that exists.

    With onDelete Retain nothing owns it, so that nobody's deletion takes it along.
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
            owned=_is_owned(model),
        ),
        "spec": spec,
    }


def render_record(model: Model, known: StoreRecord) -> Object:
    """The record of a model's store. It lives as long as the store: models may share both."""
    labelled = render_labels(model, "store", store=True)
    if model.spec.storage.existing_claim is not None:
        # Nobody's in particular: whoever writes it last must not change whose it is.
        for name in (MODEL_LABEL, "app.kubernetes.io/instance"):
            del labelled[name]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": render_metadata(
            model, make_record_name(model.store_claim), labelled, owned=_is_owned(model)
        ),
        "data": known.to_data(),
    }


def _is_owned(model: Model) -> bool:
    """Whether the store is removed with its model."""
    return model.spec.storage.on_delete == "Delete"
