"""Whether a spec can be carried out at all, as far as that is known. Pure.

What the API server can judge is refused by the CustomResourceDefinition; here is what needs the
licence table, the operator's images, the cluster, or the checkpoint's config.json.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.contracts.spec import Backend
from llmjp_builder.sources.licence import licence_of
from llmjp_operator.decide.placement import storage_problem
from llmjp_operator.names import RETRY

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmjp_operator.api import Model
    from llmjp_operator.observe.snapshot import Snapshot
    from llmjp_operator.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why nothing goes on, until a person does something."""

    reason: str
    """One word, for programs."""
    message: str
    """For people: what is wrong, and what to do."""


def problem(model: Model, snapshot: Snapshot, settings: Settings) -> Problem | None:
    """The first thing that stands in the way; None where nothing is known to."""
    return next(filter(None, (check(model, snapshot, settings) for check in _CHECKS)), None)


def _licence(model: Model, _facts: Snapshot, _settings: Settings) -> Problem | None:
    hub = model.spec.source.hugging_face
    if hub is None:
        return None
    licence, accepted = licence_of(hub.repository), model.spec.licence.accepted
    if not licence.needs_acceptance or accepted == licence.id:
        return None
    instead = f" ({accepted} was accepted, which is another one)" if accepted else ""
    return Problem(
        reason="LicenceNotAccepted",
        message=(
            f"{hub.repository} has terms of its own: {licence.name}{instead}. Nothing was "
            f"downloaded. Read {licence.url} and, if you accept, set spec.licence.accepted: "
            f"{licence.id}"
        ),
    )


def _backend(model: Model, _facts: Snapshot, _settings: Settings) -> Problem | None:
    if model.spec.engine.backend is not Backend.VLLM:
        return None
    return Problem(
        reason="BackendNotServed",
        message="backend vllm cannot be served yet: use tensorrt, pytorch or torch",
    )


def _images(model: Model, _facts: Snapshot, settings: Settings) -> Problem | None:
    wanted = model.spec.serving_flavour
    if wanted in settings.images:
        return None
    known = ", ".join(sorted(settings.images)) or "none"
    return Problem(
        reason="ImageMissing",
        message=(
            f"the operator was installed without images for {wanted} (it has: {known}): set them "
            "in the chart's values under images"
        ),
    )


def _world(model: Model, _facts: Snapshot, _settings: Settings) -> Problem | None:
    engine, hardware = model.spec.engine, model.spec.hardware
    world = engine.tensor_parallel * engine.pipeline_parallel
    if engine.backend is Backend.TORCH or world <= hardware.gpus_per_node:
        return None
    return Problem(
        reason="SeveralNodesNeeded",
        message=(
            f"tensorParallel {engine.tensor_parallel} x pipelineParallel "
            f"{engine.pipeline_parallel} is {world} GPUs, but a node has "
            f"{hardware.gpus_per_node} (spec.hardware.gpusPerNode); serving over several nodes "
            "does not exist yet: use fewer GPUs, or fp8, or GPUs with more memory "
            "(llmjp plan says what fits)"
        ),
    )


def _claims(model: Model, snapshot: Snapshot, _settings: Settings) -> Problem | None:
    volume, existing = model.spec.source.persistent_volume_claim, model.spec.storage.existing_claim
    named = [("spec.source.persistentVolumeClaim.claimName", volume.claim_name if volume else None)]
    named.append(("spec.storage.existingClaim", existing))
    for field, name in named:
        if name is None:
            continue
        found = snapshot.claims.get(name)
        if found is None or found.deleting:
            what = "does not exist" if found is None else "is being deleted"
            return Problem(
                reason="ClaimMissing",
                message=f"{field}: the claim {name} {what} in namespace {model.namespace}",
            )
    return None


def _texts(_model: Model, snapshot: Snapshot, _settings: Settings) -> Problem | None:
    if snapshot.texts is None or snapshot.texts.digest:
        return None
    return Problem(
        reason="TextsMissing",
        message=f"spec.engine.calibration.configMapRef: {snapshot.texts.problem}",
    )


def _storage(model: Model, snapshot: Snapshot, _settings: Settings) -> Problem | None:
    sentence = storage_problem(model, snapshot)
    if sentence is None:
        return None
    return Problem(reason="StorageWouldDeadlock", message=sentence)


_CHECKS: tuple[Callable[[Model, Snapshot, Settings], Problem | None], ...] = (
    _licence,
    _backend,
    _world,
    _images,
    _claims,
    _texts,
    _storage,
)

HINT_TO_RETRY = (
    f"to try again with nothing changed: kubectl annotate --overwrite ljm/NAME {RETRY}=1"
)
"""For failures that only a person can end, but not by changing the spec."""
