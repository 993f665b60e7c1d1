"""Validation of a spec by what the API server cannot judge. Pure.

The CustomResourceDefinition refuses what it can; this needs the licence table, the operator's
images, or the cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llmjp_builder.contracts.spec import Backend
from llmjp_builder.sources.licence import find_licence
from llmjp_operator.decide.placement import find_storage_deadlock
from llmjp_operator.decisions import Problem
from llmjp_operator.names import CPU_FLAVOUR, ROLLBACK_TO
from llmjp_operator.settings import HUB

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmjp_operator.api import Model
    from llmjp_operator.observe.snapshot import Snapshot
    from llmjp_operator.settings import Settings


def find_problem(model: Model, snapshot: Snapshot, settings: Settings) -> Problem | None:
    """Return the first problem that stands in the way; None where none is known."""
    return next(filter(None, (check(model, snapshot, settings) for check in _CHECKS)), None)


def _check_names(model: Model, snapshot: Snapshot, _settings: Settings) -> Problem | None:
    if not snapshot.taken:
        return None
    listed = ", ".join(f"{ref.kind} {ref.name}" for ref in sorted(snapshot.taken))
    one = len(snapshot.taken) == 1
    return Problem(
        reason="NameTaken",
        message=(
            f"{listed} in namespace {model.namespace} {'is' if one else 'are'} not this model's, "
            f"and {'was' if one else 'were'} left as {'it is' if one else 'they are'}: give the "
            f"model another name, or delete {'it' if one else 'them'} if nobody needs "
            f"{'it' if one else 'them'}; the model then goes on by itself"
        ),
    )


def _check_revision(model: Model, snapshot: Snapshot, _settings: Settings) -> Problem | None:
    numbers = [str(revision.number) for revision in snapshot.revisions]
    if not model.rollback_to or model.rollback_to in numbers:
        return None
    known = ", ".join(numbers) or "none yet"
    return Problem(
        reason="RevisionMissing",
        message=(
            f"the annotation {ROLLBACK_TO} asks for revision {model.rollback_to}, and there is: "
            f"{known}; `llmjp rollback {model.name} -n {model.namespace}` lists them"
        ),
    )


def _check_licence(model: Model, _facts: Snapshot, _settings: Settings) -> Problem | None:
    hub = model.spec.source.hugging_face
    if hub is None:
        return None
    licence, accepted = find_licence(hub.repository), model.spec.licence.accepted
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


def _check_token(model: Model, _facts: Snapshot, settings: Settings) -> Problem | None:
    """Refuse a token for any host: whoever may create models would read Secrets by it."""
    hub = model.spec.source.hugging_face
    if hub is None or hub.token_secret_ref is None:
        return None
    endpoint = urlsplit(hub.endpoint or f"https://{HUB}")
    host, origin = endpoint.netloc.lower(), f"{endpoint.scheme}://{endpoint.netloc}".lower()
    allowed = {each.lower() for each in settings.token_hosts}
    if origin in allowed or (endpoint.scheme == "https" and host in allowed):
        return None
    known = ", ".join(settings.token_hosts) or "none"
    return Problem(
        reason="TokenNotAllowed",
        message=(
            f"spec.source.huggingFace: a token is not sent to {origin}: the platform allows "
            f"{known}, over https. Leave tokenSecretRef or endpoint out, or let an administrator "
            "add the host to the chart's value tokenHosts"
        ),
    )


def _check_backend(model: Model, _facts: Snapshot, _settings: Settings) -> Problem | None:
    if model.spec.engine.backend is not Backend.VLLM:
        return None
    return Problem(
        reason="BackendNotServed",
        message="backend vllm is served by `llmjp serve` alone: use tensorrt, pytorch or torch",
    )


def _check_images(model: Model, _facts: Snapshot, settings: Settings) -> Problem | None:
    spec = model.spec
    building = spec.get_build_flavour(max(spec.build_gpus, spec.calibration_gpus))
    needed = (spec.serving_flavour, CPU_FLAVOUR, building)  # that of the CPU pins sources
    flavour = next((name for name in needed if name not in settings.images), None)
    if flavour is None:
        return None
    known = ", ".join(sorted(settings.images)) or "none"
    return Problem(
        reason="ImageMissing",
        message=(
            f"the operator was installed without images for {flavour} (it has: {known}): set them "
            "in the chart's values under images"
        ),
    )


def _check_world(model: Model, _facts: Snapshot, _settings: Settings) -> Problem | None:
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


def _check_claims(model: Model, snapshot: Snapshot, _settings: Settings) -> Problem | None:
    volume, existing = model.spec.source.persistent_volume_claim, model.spec.storage.existing_claim
    claims = (
        ("spec.source.persistentVolumeClaim.claimName", volume.claim_name if volume else None),
        ("spec.storage.existingClaim", existing),
    )
    for field, name in claims:
        if name is None:
            continue
        claim = snapshot.claims.get(name)
        if claim is None or claim.deleting:
            state = "does not exist" if claim is None else "is being deleted"
            return Problem(
                reason="ClaimMissing",
                message=f"{field}: the claim {name} {state} in namespace {model.namespace}",
            )
    return None


def _check_texts(_model: Model, snapshot: Snapshot, _settings: Settings) -> Problem | None:
    if snapshot.texts is None or snapshot.texts.digest:
        return None
    return Problem(
        reason="TextsMissing",
        message=f"spec.engine.calibration.configMapRef: {snapshot.texts.problem}",
    )


def _check_storage(model: Model, snapshot: Snapshot, _settings: Settings) -> Problem | None:
    deadlock = find_storage_deadlock(model, snapshot)
    return None if deadlock is None else Problem(reason="StorageWouldDeadlock", message=deadlock)


_CHECKS: tuple[Callable[[Model, Snapshot, Settings], Problem | None], ...] = (
    _check_names,
    _check_revision,
    _check_licence,
    _check_token,
    _check_backend,
    _check_world,
    _check_images,
    _check_claims,
    _check_texts,
    _check_storage,
)
