"""Rollout and rollback: the revision that the Deployment runs now. Pure; renders nothing.

    candidate = decide_candidate(...)      what the spec asks for, if its artefact is there
    rollout = decide_rollout(...)          a revision, a candidate to make one of, or nothing

A revision is rolled out whole, its images included, and runs as it was made until something else is
wanted: while another artefact is built, while images are missing, after an upgrade of the operator.
Where no GPU is free for a new pod beside the old one (maxSurge 0), a revision whose pods run and do
not become ready is rolled back to the last one that served.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmjp_operator.decide.revisions import (
    compute_inputs,
    compute_spec_digest,
    find_current,
    find_previous,
    find_wanted,
)
from llmjp_operator.decide.sizing import estimate_resources
from llmjp_operator.decisions import Candidate, RolloutDecision
from llmjp_operator.observe.revision import UNKNOWN, RevisionInputs
from llmjp_operator.observe.store_record import ServedArtefact

if TYPE_CHECKING:
    from llmjp_operator.api import Model
    from llmjp_operator.decisions import Decision
    from llmjp_operator.observe.revision import Revision
    from llmjp_operator.observe.snapshot import ObservedDeployment, ObservedPod, Snapshot
    from llmjp_operator.observe.store_record import StoreRecord
    from llmjp_operator.settings import Settings


def decide_candidate(model: Model, decision: Decision, settings: Settings) -> Candidate | None:
    """Return what the spec asks for; None while its artefact is not there."""
    inputs = compute_inputs(model, decision, settings)
    if inputs is None or decision.target is None:
        return None
    return Candidate(
        model=model,
        artefact=decision.target,
        inputs=inputs,
        host_memory_bytes=decision.estimate.serving_memory_bytes,
    )


def decide_rollout(
    model: Model,
    snapshot: Snapshot,
    decision: Decision,
    candidate: Candidate | None,
    *,
    settings: Settings,
) -> RolloutDecision | None:
    """Return what to deploy; None for nothing yet, and to leave alone what is deployed.

    Args:
        model: what is asked for.
        snapshot: the cluster.
        decision: the way to the artefact.
        candidate: what the spec asks for; None where it is not there.
        settings: the policy of upgrades.
    """
    live = snapshot.deployment
    current = find_current(snapshot.revisions, live)
    if model.rollback_to:
        held = find_revision(snapshot.revisions, model.rollback_to)
        return None if held is None else RolloutDecision(revision=held, held=True)
    if candidate is None:
        return _decide_meanwhile(model, snapshot, decision, current)
    wanted = find_wanted(model, snapshot.revisions, candidate.inputs, settings)
    if wanted is not None and _is_failure(wanted, model, snapshot):
        return _roll_back(model, decision, wanted, snapshot)
    return _queue(
        RolloutDecision(revision=wanted, candidate=candidate), current, snapshot, settings
    )


def _decide_meanwhile(
    model: Model, snapshot: Snapshot, decision: Decision, current: Revision | None
) -> RolloutDecision | None:
    """Return what to run while what the spec asks for is not there.

    What runs goes on. What never became ready and is wanted no longer makes room: its pods may hold
    the GPUs that the next build needs.
    """
    if current is None or _serves_in_vain(snapshot, decision):
        return None
    wanted_no_longer = current.inputs.spec != compute_spec_digest(model, decision)
    if current.served or decision.problem is not None or not wanted_no_longer:
        return RolloutDecision(revision=current)
    previous = find_previous(snapshot.revisions, current)
    if previous is not None:
        return RolloutDecision(revision=previous)
    served = _find_last_served(model, snapshot, decision, besides=current.key)
    return (
        RolloutDecision(revision=current) if served is None else RolloutDecision(candidate=served)
    )


def find_revision(revisions: tuple[Revision, ...], number: str) -> Revision | None:
    """Return the revision of that number."""
    return next((r for r in revisions if str(r.number) == number), None)


def _is_failure(wanted: Revision, model: Model, snapshot: Snapshot) -> bool:
    """Return whether the wanted revision has failed, or fails now, and is to be rolled back.

    A status that is older than the last change tells nothing about it, and a pod whose image is
    still being pulled has not failed.
    """
    live = snapshot.deployment
    if wanted.failed is not None and wanted.failed == model.retry:
        return True
    if live is None or model.spec.serving.max_surge or live.pods != wanted.pods:
        return False
    unready = [
        pod
        for pod in snapshot.pods
        if pod.model == model.name and pod.key == wanted.key and not pod.ready
    ]
    fails = bool(unready) and all(map(_has_run, unready))
    return live.observed and bool(live.stalled) and fails


def _has_run(pod: ObservedPod) -> bool:
    """Return whether the pod's container has run, or runs."""
    return pod.phase == "Running" or pod.termination is not None or pod.restarts > 0


def _roll_back(
    model: Model, decision: Decision, wanted: Revision, snapshot: Snapshot
) -> RolloutDecision | None:
    """Return the rollout of the last revision that served; None to leave what is live alone."""
    live = snapshot.deployment
    previous = find_previous(snapshot.revisions, wanted)
    if previous is not None:
        return RolloutDecision(revision=previous, rolled_back=True, failed=wanted)
    served = _find_last_served(model, snapshot, decision, besides=wanted.key)
    if served is not None:
        return RolloutDecision(candidate=served, rolled_back=True, failed=wanted)
    if live is not None and live.pods != wanted.pods:
        return None  # It was rolled back to what nobody has recorded, and serves.
    return RolloutDecision(revision=wanted)


def _queue(
    rollout: RolloutDecision, current: Revision | None, snapshot: Snapshot, settings: Settings
) -> RolloutDecision:
    """Return the rollout, or what runs while an upgrade waits for its turn.

    Only upgrades wait: the same artefact and spec with other images or another operator.
    """
    candidate = rollout.candidate
    if current is None or candidate is None or not current.served:
        return rollout
    same = (current.key, current.inputs.spec) == (candidate.inputs.key, candidate.inputs.spec)
    if not same or rollout.revision == current:
        return rollout
    if snapshot.upgrading < settings.upgrades_at_once:
        return rollout
    return RolloutDecision(revision=current, queued=True)


def note_progress(revision: Revision, rollout: RolloutDecision, snapshot: Snapshot) -> Revision:
    """Return the revision with what is known of it now.

    It has served once its pods are ready. What the spec asks for is the newest, also if it was made
    long ago, and is tried again if it failed before somebody asked for that.
    """
    if is_rolled_out(snapshot.deployment, revision.pods):
        revision = replace(revision, served=True)
    if rollout.candidate is None or rollout.rolled_back:
        return revision
    newest = max((r.number for r in snapshot.revisions), default=0)
    number = revision.number if revision.number == newest else newest + 1
    return replace(revision, number=number, failed=None)


def was_rolled_back(model: Model, snapshot: Snapshot) -> bool:
    """Return whether version 0.1.0 had rolled back what the spec asks for."""
    live, status = snapshot.deployment, model.status
    reasons = {c.reason for c in status.conditions if c.type == "Progressing"}
    current = status.observed_generation == model.generation and "RolledBack" in reasons
    return live is not None and bool(live.failed_rollout) and current


def find_reason_to_remove(model: Model, snapshot: Snapshot, decision: Decision) -> str:
    """Return why to remove a Deployment that nothing is deployed for; empty to leave it alone.

    It cannot be scaled, as its pods cannot be rendered.
    """
    live = snapshot.deployment
    if live is None or model.uid not in live.owners:
        return ""
    if model.spec.serving.replicas == 0 and live.wanted:
        return "spec.serving.replicas is 0"
    in_vain = _serves_in_vain(snapshot, decision)
    return "its engine never became ready, and another one is wanted" if in_vain else ""


def _serves_in_vain(snapshot: Snapshot, decision: Decision) -> bool:
    """Return whether pods that never became ready hold GPUs that the next build may need."""
    waits = decision.problem is None or decision.problem.reason == "StorageWouldDeadlock"
    if decision.request is None or decision.artefact is not None or not waits:
        return False
    live = snapshot.deployment
    current = find_current(snapshot.revisions, live)
    if live is None or current is None or live.ready:
        return False
    return not any(revision.served for revision in snapshot.revisions)


def record_rollout(model: Model, snapshot: Snapshot, decision: Decision) -> StoreRecord:
    """Return the record; with the artefact that the spec asks for, once its pods became ready."""
    target, rollout = decision.target, decision.rollout
    if target is None or rollout is None or rollout.key != target.key:
        return decision.record
    if not is_rolled_out(snapshot.deployment, decision.pod_digest):
        return decision.record
    return decision.record.with_served(model.name, to_served_artefact(model, target.key))


def is_rolled_out(live: ObservedDeployment | None, pods: str) -> bool:
    """Return whether all pods that are wanted run what was deployed last, and at least one does."""
    return live is not None and live.pods == pods and live.complete and live.available > 0


def find_active_key(model: Model, snapshot: Snapshot, record: StoreRecord) -> str | None:
    """Return the artefact that answers: during a change the old one, while a pod of it is ready."""
    ready = {pod.key for pod in snapshot.pods if pod.model == model.name and pod.key and pod.ready}
    if not ready:
        return None
    last = record.history.get(model.name, ())
    if last and last[-1].key in ready:
        return last[-1].key
    live = snapshot.deployment
    if live is not None and live.key in ready:
        return live.key
    return min(ready)


def to_served_artefact(model: Model, key: str) -> ServedArtefact:
    """Return what is remembered of an artefact that became ready."""
    spec = model.spec
    return ServedArtefact(key=key, engine=spec.engine, hardware=spec.hardware, runtime=spec.runtime)


def _find_last_served(
    model: Model, snapshot: Snapshot, decision: Decision, besides: str
) -> Candidate | None:
    """Return what version 0.1.0 recorded as served last, with another key, and still there.

    A model that has only revisions of its own has no need of it: the record may be about a model of
    the same name that was deleted.
    """
    if all(revision.inputs.platform != UNKNOWN for revision in snapshot.revisions):
        return None
    for served in reversed(decision.record.history.get(model.name, ())):
        artefact = decision.record.find_artefact(served.key)
        if artefact is None or served.key == besides:
            continue
        as_served = _as_served(model, served)
        return Candidate(
            model=as_served,
            artefact=artefact,
            inputs=RevisionInputs(key=served.key, spec=UNKNOWN, platform=UNKNOWN),
            host_memory_bytes=_estimate_host_memory(as_served, decision),
        )
    return None


def _as_served(model: Model, served: ServedArtefact) -> Model:
    spec = replace(
        model.spec,
        engine=served.engine,
        hardware=served.hardware,
        runtime=served.runtime,
    )
    return replace(model, spec=spec)


def _estimate_host_memory(model: Model, decision: Decision) -> int | None:
    """Return what a pod needs, by the source as it is pinned now, or was before."""
    pinned = decision.record.sources.get(model.name)
    resolution = decision.resolution or (None if pinned is None else pinned.found)
    if resolution is None:
        return None
    return estimate_resources(model.spec, resolution).serving_memory_bytes
