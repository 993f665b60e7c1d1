"""Whose an object is. Pure.

    owner reference to the model     its own objects; Kubernetes deletes them with it
    annotation `names.OWNER`         what outlives a model, or is shared: claims, records
    our field manager applied it     the same of version 0.1.0, which had no annotation; Jobs

A label proves nothing: whoever may create a Service may label it. What is not proved to be ours is
never written, never removed, and nothing is read from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from llmjp_operator.names import (
    FIELD_MANAGER,
    KIND,
    MANAGED_BY,
    OPERATOR,
    OWNER,
    make_owner_id,
    make_record_name,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_operator.api import Model
    from llmjp_operator.observe.snapshot import ObjectRef

OUTLIVING: Final = frozenset({"ConfigMap", "PersistentVolumeClaim"})
"""Kinds of objects that may outlive a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """What an object says about whose it is."""

    models: frozenset[str] = frozenset()
    """uids of the models that own it."""
    annotation: str = ""
    """Value of `names.OWNER`; empty if it has none."""
    applied: bool = False
    """Whether it has our label, and our field manager applied it."""
    deleting: bool = False


def parse_ownership(body: Mapping[str, Any]) -> Ownership:
    """Return what an object says about whose it is."""
    metadata = body["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    entries = metadata.get("managedFields") or ()
    applied = any(
        entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply"
        for entry in entries
    )
    references = metadata.get("ownerReferences") or ()
    return Ownership(
        models=frozenset(owner["uid"] for owner in references if owner.get("kind") == KIND),
        annotation=annotations.get(OWNER, ""),
        applied=applied and labels.get(MANAGED_BY) == OPERATOR,
        deleting="deletionTimestamp" in metadata,
    )


def is_ours(
    ref: ObjectRef, whose: Ownership, model: Model, sharing: frozenset[str] = frozenset()
) -> bool:
    """Return whether an object is the model's, or one of the store that it shares.

    Args:
        ref: the object.
        whose: what it says.
        model: who would write it.
        sharing: uids of the models on the same store.
    """
    if model.uid in whose.models:
        return True
    if ref.kind == "Job":
        return whose.applied or bool(whose.models & sharing)
    if ref.kind not in OUTLIVING:
        return False
    if whose.annotation:
        return whose.annotation == _make_owner(ref, model)
    return whose.applied and whose.models <= sharing


def is_going(whose: Ownership, models: frozenset[str]) -> bool:
    """Return whether Kubernetes is about to remove an object: nobody needs to do anything.

    Args:
        whose: what the object says.
        models: uids of all models there are; what only others own is garbage-collected.
    """
    return whose.deleting or (bool(whose.models) and not whose.models & models)


def _make_owner(ref: ObjectRef, model: Model) -> str:
    """Return the annotation of the model's claim, or of the record of its store."""
    if ref.kind == "ConfigMap" and ref.name == make_record_name(model.store_claim):
        return make_owner_id(model.namespace, model.store_claim)
    return make_owner_id(model.namespace, model.name)
