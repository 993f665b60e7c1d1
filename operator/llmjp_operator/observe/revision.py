"""Revisions of a model: everything that was rolled out together, never changed afterwards. Pure.

One is an `apps/v1` ControllerRevision that the model owns, as those of StatefulSets are:

    schema       version of this layout
    key          the artefact
    spec         digest of the parts of the spec that its pods follow from
    platform     digest of what they follow from besides: images, pull settings, how pods are made
    pods         digest of the pod template
    template     the pod template, images included
    deadline     seconds that its pods may take to become ready
    madeBy       version of the operator

Its `revision` is the number that people see; going back to an older one by the spec makes that the
newest. Two annotations are no part of it: whether its pods ever became ready, and whether a rollout
of it failed.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from llmjp_builder.contracts.spec import to_canonical_json
from llmjp_operator.names import FAILED, SERVED, compute_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

Object = dict[str, Any]

SCHEMA_VERSION: Final = 1
UNKNOWN: Final = ""
"""Digest of inputs that nobody recorded: of what version 0.1.0 rolled out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionInputs:
    """What a revision is known by, before any of its pods is rendered."""

    key: str
    """Key of the artefact."""
    spec: str
    """Digest of the parts of the spec that the pods follow from."""
    platform: str
    """Digest of the images, settings and code that they follow from."""

    @property
    def digest(self) -> str:
        """Digest of all of them."""
        return compute_digest(f"{self.key} {self.spec} {self.platform}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One revision, as stored."""

    name: str
    number: int
    inputs: RevisionInputs
    pods: str
    """Digest of the pod template."""
    packed: bytes
    """The pod template as compressed JSON: a thousand models have several of 5 kB each."""
    deadline_s: int
    made_by: str
    served: bool = False
    """Whether its pods became ready."""
    failed: str | None = None
    """The model's retry annotation when its rollout failed; None if it has not."""

    @property
    def key(self) -> str:
        """Key of the artefact."""
        return self.inputs.key

    @property
    def template(self) -> Object:
        """The pod template."""
        return unpack_template(self.packed)


def pack_template(template: Mapping[str, Any]) -> bytes:
    """Return a pod template as compressed JSON; the order of its fields is kept."""
    return zlib.compress(json.dumps(template, ensure_ascii=False).encode())


def unpack_template(packed: bytes) -> Object:
    """Return the pod template that was packed."""
    template: Object = json.loads(zlib.decompress(packed))
    return template


def compute_template_digest(template: Mapping[str, Any]) -> str:
    """Return the digest by which pods are known."""
    return compute_digest(to_canonical_json(template))


def parse_revision(body: Mapping[str, Any]) -> Revision | None:
    """Parse a ControllerRevision of ours; None if it cannot be understood."""
    metadata, data = body["metadata"], body.get("data") or {}
    annotations = metadata.get("annotations") or {}
    try:
        return Revision(
            name=metadata["name"],
            number=int(body.get("revision") or 0),
            inputs=RevisionInputs(
                key=str(data["key"]), spec=str(data["spec"]), platform=str(data["platform"])
            ),
            pods=str(data["pods"]),
            packed=pack_template(data["template"]),
            deadline_s=int(data["deadline"]),
            made_by=str(data.get("madeBy", "")),
            served=SERVED in annotations,
            failed=annotations.get(FAILED),
        )
    except (KeyError, TypeError, ValueError):
        return None
