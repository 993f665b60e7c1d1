"""The way from a spec to an artefact that can be served, as far as it is gone. Pure.

decision = decide_target(...)                what is there, and what is missing
pods = digest of the missing Job's pods      a value: `plan` renders
decision = decide_wanted_job(..., pods)      what to do about that Job
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmjp_builder.contracts.spec import Kind
from llmjp_operator.decide.build_request import make_checkpoint_request, make_request
from llmjp_operator.decide.job_results import absorb_job_results, find_next_attempt
from llmjp_operator.decide.jobs import decide_job
from llmjp_operator.decide.placement import (
    find_build_deadlock,
    find_gpu_shortage,
    find_incompatibility,
    is_single_node,
)
from llmjp_operator.decide.sizing import estimate_resources
from llmjp_operator.decide.validation import find_problem
from llmjp_operator.decisions import Decision, Problem
from llmjp_operator.names import make_build_job_name, make_resolve_job_name
from llmjp_operator.observe.store_record import make_source_entry

if TYPE_CHECKING:
    from llmjp_builder.contracts.spec import Built, Resolution
    from llmjp_operator.api import Model
    from llmjp_operator.decisions import BuildRequest, JobDecision
    from llmjp_operator.observe.snapshot import Snapshot
    from llmjp_operator.observe.store_record import StoreRecord
    from llmjp_operator.settings import Settings


def decide_target(model: Model, snapshot: Snapshot, settings: Settings) -> Decision:
    """Return how far the model is on the way to the artefact, or the artefact."""
    published = model.spec.serving.service.type != "ClusterIP"
    decision = Decision(
        record=absorb_job_results(model, snapshot),
        single_node=is_single_node(model, snapshot),
        closed_to_outside=published
        and settings.network.enabled
        and bool(settings.network.serving_from),
    )
    problem = find_problem(model, snapshot, settings)
    if problem is not None:
        return replace(decision, problem=problem)
    resolution = _find_resolution(model, decision.record)
    if resolution is None:
        return decision
    estimate = estimate_resources(model.spec, resolution)
    texts = snapshot.texts.digest if snapshot.texts else None
    request = make_request(model, resolution, texts)
    decision = replace(decision, resolution=resolution, estimate=estimate, request=request)
    if estimate.refusal is not None:
        problem = Problem(reason="CannotWork", message=estimate.refusal)
        return replace(decision, problem=problem)
    artefact = decision.record.artefacts.get(request.digest)
    if artefact is None and request.spec.backend.kind is Kind.ENGINE:
        first = make_checkpoint_request(model, resolution, texts)
        return replace(decision, request=_choose_request(model, snapshot, decision, first))
    if artefact is None:
        return decision
    return replace(
        decision,
        artefact=artefact,
        cache_hit=_is_cache_hit(model, request, artefact),
        incompatible=find_incompatibility(model.spec, artefact, snapshot.nodes),
    )


def _choose_request(
    model: Model, snapshot: Snapshot, decision: Decision, first: BuildRequest
) -> BuildRequest:
    """Return what is to be built next of an engine: `first` its checkpoint, then itself.

    Version 0.1.0 has one Job for both: one that runs, or whose end was not seen yet, goes on, and
    one that failed for good stays failed.
    """
    engine, record = decision.request, decision.record
    assert engine is not None, "the source is pinned"
    made = record.checkpoints.get(first.digest)
    if made is not None:
        return replace(engine, checkpoint=made.key)
    job = snapshot.jobs.get(make_build_job_name(engine.digest, model.store_claim))
    if job is not None and not (job.deleting or job.checkpoint or record.has_counted(job.uid)):
        return engine
    failed = record.find_failure(engine.digest, "")
    return first if find_next_attempt(failed, engine.digest, model) else engine


def decide_wanted_job(model: Model, snapshot: Snapshot, decision: Decision, pods: str) -> Decision:
    """Return the decision with what to do about the Job whose result is missing, if one is.

    Args:
        model: who wants it.
        snapshot: the cluster.
        decision: how far the model is.
        pods: digest of the pods of the Job; empty where none is wanted.
    """
    if decision.problem is not None or decision.artefact is not None:
        return decision
    if decision.request is None:
        return replace(decision, resolving=_decide_resolve(model, snapshot, decision, pods))
    return _decide_build(model, snapshot, decision, pods)


def _find_resolution(model: Model, record: StoreRecord) -> Resolution | None:
    """Return the pinned source, if it was pinned for this model and this spec."""
    pinned = record.sources.get(model.name)
    if pinned is None or pinned.uid != model.uid:
        return None
    return pinned.found if pinned.asked == model.spec.source.reference_digest else None


def _decide_resolve(model: Model, snapshot: Snapshot, decision: Decision, pods: str) -> JobDecision:
    wanted = model.spec.source.reference_digest
    return decide_job(
        make_resolve_job_name(model.name, wanted),
        wanted,
        decision.record.find_failure(make_source_entry(model.name), pods),
        pods=pods,
        model=model,
        snapshot=snapshot,
        record=decision.record,
    )


def _decide_build(model: Model, snapshot: Snapshot, decision: Decision, pods: str) -> Decision:
    request = decision.request
    assert request is not None, "the source is pinned"
    name = make_build_job_name(request.digest, model.store_claim)
    deadlock = None if name in snapshot.jobs else find_build_deadlock(model, snapshot, request.gpus)
    if deadlock is not None:
        return replace(decision, problem=Problem(reason="StorageWouldDeadlock", message=deadlock))
    building = decide_job(
        name,
        request.digest,
        decision.record.find_failure(request.digest, pods),
        pods=pods,
        model=model,
        snapshot=snapshot,
        record=decision.record,
    )
    shortage = find_gpu_shortage(model, snapshot, request.gpus)
    if building.waiting and shortage:
        building = replace(building, waiting=f"{building.waiting.rstrip(': ')}; {shortage}")
    return replace(decision, building=building)


def _is_cache_hit(model: Model, request: BuildRequest, artefact: Built) -> bool:
    """Return whether nothing was built for this model; the first answer about a key stays."""
    engine = model.status.engine
    if engine.key == artefact.key and engine.cache_hit is not None:
        return engine.cache_hit
    waited_for_it = model.status.build.job == make_build_job_name(request.digest, model.store_claim)
    return artefact.cache_hit if waited_for_it else True
