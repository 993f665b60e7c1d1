"""An LlmJpModel from the API server, parsed at the edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmjp_operator.api.codec import decode
from llmjp_operator.api.spec import Spec
from llmjp_operator.api.status import Status
from llmjp_operator.errors import InvalidModel
from llmjp_operator.names import API_VERSION, KIND, RETRY, ROLLBACK_TO, STORE_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One LlmJpModel."""

    name: str
    namespace: str
    uid: str
    """Empty if the object does not come from an API server."""
    generation: int
    """Counts changes of the spec; 0 if the object does not come from an API server."""
    spec: Spec
    status: Status
    """The status that was last written."""
    retry: str = ""
    """Value of the annotation that asks for another attempt after a permanent failure."""
    rollback_to: str = ""
    """Value of the annotation that asks for an older revision."""
    deleting: bool = False
    """Whether it is being deleted."""

    @property
    def store_claim(self) -> str:
        """Name of the PersistentVolumeClaim that holds the model's store."""
        return self.spec.storage.existing_claim or f"{self.name}{STORE_SUFFIX}"


def parse_model(body: Mapping[str, Any]) -> Model:
    """Parse an LlmJpModel. Pure.

    An unknown field in the spec is an error; in the status it is ignored, since a newer operator
    may have written it.

    Raises:
        InvalidModel: names the field, what was expected and what was found.
    """
    for name, expected in (("apiVersion", API_VERSION), ("kind", KIND)):
        if body.get(name) != expected:
            raise InvalidModel(name, f"must be {expected}, found {body.get(name)}")
    metadata = body.get("metadata") or {}
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise InvalidModel("metadata.name", "required, but missing")
    if "spec" not in body:
        raise InvalidModel("spec", "required, but missing")
    return Model(
        name=metadata["name"],
        namespace=metadata.get("namespace") or "default",
        uid=metadata.get("uid") or "",
        generation=metadata.get("generation") or 0,
        spec=decode(Spec, body["spec"], "spec"),
        status=_parse_status(body.get("status") or {}),
        retry=str((metadata.get("annotations") or {}).get(RETRY, "")),
        rollback_to=str((metadata.get("annotations") or {}).get(ROLLBACK_TO, "")),
        deleting="deletionTimestamp" in metadata,
    )


def _parse_status(value: object) -> Status:
    """Parse the last status; return an empty one if it is invalid."""
    try:
        return decode(Status, value, "status", strict=False)
    except InvalidModel:
        return Status()
