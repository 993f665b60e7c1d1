"""Rollout and rollback: the artefact that the Deployment runs now. Pure.

The artefact that the spec asks for, once it is there and compatible; until then what served last,
by the part of the spec that it was served by, so that scaling and serving settings work meanwhile.
Where no GPU is free for a new pod beside the old one (maxSurge 0), a rollout whose pods do not
become ready is rolled back.

    candidate = decide_candidate(...)      the rollout that the spec asks for, if there is one
    pods = digest of its rendered pods     a value: `plan` renders
    rollout = decide_rollout(..., pods)    the candidate, what served last, or nothing
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmjp_operator.decide.sizing import estimate_resources
from llmjp_operator.decisions import RolloutDecision
from llmjp_operator.observe.store_record import ServedArtefact

if TYPE_CHECKING:
    from llmjp_operator.api import Model
    from llmjp_operator.decisions import Decision
    from llmjp_operator.observe.snapshot import ObservedDeployment, Snapshot
    from llmjp_operator.observe.store_record import StoreRecord


def decide_candidate(model: Model, decision: Decision) -> RolloutDecision | None:
    """Return the rollout of the artefact that the spec asks for; None while there is none."""
    if decision.target is None:
        return None
    return RolloutDecision(
        model=model,
        artefact=decision.target,
        host_memory_bytes=decision.estimate.serving_memory_bytes,
    )


def decide_rollout(
    model: Model,
    snapshot: Snapshot,
    decision: Decision,
    candidate: RolloutDecision | None,
    *,
    candidate_pods: str = "",
) -> RolloutDecision | None:
    """Return what to deploy; None for nothing yet.

    Args:
        model: what is asked for.
        snapshot: the cluster.
        decision: the way to the artefact.
        candidate: the rollout that is asked for; None where there is none to try.
        candidate_pods: digest of its rendered pods; empty without a candidate.
    """
    live = snapshot.deployment
    if candidate is None:
        return None if live is None else _find_last_served(model, decision)
    if model.spec.serving.max_surge == 0 and live is not None:
        stalled_now = live.pods == candidate_pods and bool(live.stalled)
        if stalled_now or live.failed_rollout == candidate_pods:
            failed = to_served_artefact(model, candidate.artefact.key)
            previous = _find_last_served(model, decision, besides=failed)
            if previous is not None:
                return replace(previous, failed_rollout=candidate_pods, rolled_back=True)
            if live.pods != candidate_pods:
                return None  # It was rolled back to what the record has lost, and serves.
    return candidate


def find_reason_to_remove(model: Model, snapshot: Snapshot, decision: Decision) -> str:
    """Return why to remove a Deployment that nothing is deployed for; empty to leave it alone.

    It cannot be scaled, as its pods cannot be rendered.
    """
    live = snapshot.deployment
    if live is None or model.uid not in live.owners:
        return ""
    if model.spec.serving.replicas == 0 and live.wanted:
        return "spec.serving.replicas is 0"
    waits = decision.problem is None or decision.problem.reason == "StorageWouldDeadlock"
    if decision.request is None or decision.artefact is not None or not waits:
        return ""
    # With the record lost, what is live would not be known either.
    known = decision.record.find_artefact(live.key) is not None
    never_ready = known and not live.ready and not decision.record.history.get(model.name)
    return "its engine never became ready, and another one is wanted" if never_ready else ""


def record_rollout(model: Model, snapshot: Snapshot, decision: Decision) -> StoreRecord:
    """Return the record; with the artefact that the spec asks for, once its pods became ready."""
    target, rollout = decision.target, decision.rollout
    if target is None or rollout is None or rollout.rolled_back:
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
    model: Model, decision: Decision, besides: ServedArtefact | None = None
) -> RolloutDecision | None:
    """Return the rollout of what served last and is still there."""
    for served in reversed(decision.record.history.get(model.name, ())):
        artefact = decision.record.find_artefact(served.key)
        if artefact is None or served == besides:
            continue
        as_served = _as_served(model, served)
        return RolloutDecision(
            model=as_served,
            artefact=artefact,
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
