"""The volume of a store, and the ConfigMap that records what is in it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmjp_operator.names import MODEL_LABEL, record_name
from llmjp_operator.render.metadata import labels, metadata
from llmjp_operator.render.quantities import canonical

if TYPE_CHECKING:
    from llmjp_operator.api import Model
    from llmjp_operator.observe.store_record import StoreRecord

Object = dict[str, Any]


def claim(model: Model) -> Object | None:
    """The claim that is made for a model; None where it uses one that exists.

    With onDelete Retain nothing owns it, so that nobody's deletion takes it along.
    """
    storage = model.spec.storage
    if storage.size is None:
        return None
    spec: Object = {
        "accessModes": [storage.made_with],
        "resources": {"requests": {"storage": canonical(storage.size)}},
    }
    if storage.storage_class_name is not None:
        spec["storageClassName"] = storage.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(
            model,
            model.store_claim,
            labels(model, "store", store=True),
            owned=_goes_with(model),
        ),
        "spec": spec,
    }


def record(model: Model, known: StoreRecord) -> Object:
    """The record of a model's store. It lives as long as the store: models may share both."""
    labelled = labels(model, "store", store=True)
    if model.spec.storage.existing_claim is not None:
        # Nobody's in particular: whoever writes it last must not change whose it is.
        for name in (MODEL_LABEL, "app.kubernetes.io/instance"):
            del labelled[name]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(
            model, record_name(model.store_claim), labelled, owned=_goes_with(model)
        ),
        "data": known.to_data(),
    }


def _goes_with(model: Model) -> bool:
    """Whether the store is removed with its model."""
    return model.spec.storage.on_delete == "Delete"
