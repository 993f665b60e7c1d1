"""The ControllerRevision that keeps a revision. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmjp_operator.names import FAILED, SERVED
from llmjp_operator.observe.revision import SCHEMA_VERSION
from llmjp_operator.render.metadata import render_labels, render_metadata

if TYPE_CHECKING:
    from llmjp_operator.api import Model
    from llmjp_operator.observe.revision import Revision

Object = dict[str, Any]


def render_revision(model: Model, revision: Revision) -> Object:
    """Return the object; Kubernetes refuses any change of its data."""
    notes = {SERVED: "true"} if revision.served else {}
    notes |= {FAILED: revision.failed} if revision.failed is not None else {}
    labelled = render_labels(model, "serving", key=revision.key, store=True)
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": render_metadata(model, revision.name, labelled, notes),
        "revision": revision.number,
        "data": {
            "schema": SCHEMA_VERSION,
            "key": revision.key,
            "spec": revision.inputs.spec,
            "platform": revision.inputs.platform,
            "pods": revision.pods,
            "template": revision.template,
            "deadline": revision.deadline_s,
            "madeBy": revision.made_by,
        },
    }
