"""What pods are rendered to is counted: models that keep what serves rely on it.

A rendering that changed is a new `decide.revisions.TEMPLATE_REVISION`, and a new line here. Only
then does policy Roll replace pods after an upgrade.
"""

from __future__ import annotations

from llmjp_builder.contracts.spec import to_canonical_json
from llmjp_operator.decide.revisions import TEMPLATE_REVISION
from llmjp_operator.names import compute_digest
from tests.operator.render.samples import list_samples, parse_sample, render_all_objects

DIGESTS = {1: "3a7ead733ea72aa4f372"}
"""Digest of the pod templates of all samples, by revision of the template."""


def test_a_changed_rendering_is_counted() -> None:
    templates = [
        obj["spec"]["template"]
        for _, body, settings in ((c.id, *c.values) for c in list_samples())
        for obj in render_all_objects(parse_sample(body), settings)
        if obj["kind"] == "Deployment"
    ]
    assert DIGESTS[TEMPLATE_REVISION] == compute_digest(to_canonical_json(templates))
    assert max(DIGESTS) == TEMPLATE_REVISION
