"""The way from a spec to an artefact that can be served, as far as it is gone. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmjp_operator.decide.build_request import make_request
from llmjp_operator.decide.job_results import absorb_job_results
from llmjp_operator.decide.jobs import decide_job
from llmjp_operator.decide.placement import (
    find_build_deadlock,
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
    """Return the first thing that is missing on the way to the artefact, or the artefact."""
    decision = Decision(
        record=absorb_job_results(model, snapshot), single_node=is_single_node(model, snapshot)
    )
    problem = find_problem(model, snapshot, settings)
    if problem is not None:
        return replace(decision, problem=problem)
    resolution = _find_resolution(model, decision.record)
    if resolution is None:
        return replace(decision, resolving=_decide_resolve(model, snapshot, decision.record))
    estimate = estimate_resources(model.spec, resolution)
    request = make_request(model, resolution, snapshot.texts.digest if snapshot.texts else None)
    decision = replace(decision, resolution=resolution, estimate=estimate, request=request)
    if estimate.refusal is not None:
        problem = Problem(reason="CannotWork", message=estimate.refusal)
        return replace(decision, problem=problem)
    artefact = decision.record.artefacts.get(request.digest)
    if artefact is None:
        return _decide_build(model, snapshot, decision, request)
    return replace(
        decision,
        artefact=artefact,
        cache_hit=_is_cache_hit(model, request, artefact),
        incompatible=find_incompatibility(model.spec, artefact, snapshot.nodes),
    )


def _find_resolution(model: Model, record: StoreRecord) -> Resolution | None:
    """Return the pinned source, if it was pinned for this model and this spec."""
    pinned = record.sources.get(model.name)
    if pinned is None or pinned.uid != model.uid:
        return None
    return pinned.found if pinned.asked == model.spec.source.reference_digest else None


def _decide_resolve(model: Model, snapshot: Snapshot, record: StoreRecord) -> JobDecision:
    wanted = model.spec.source.reference_digest
    failed = record.failed.get(make_source_entry(model.name))
    return decide_job(
        make_resolve_job_name(model.name, wanted), wanted, failed, model=model, snapshot=snapshot
    )


def _decide_build(
    model: Model, snapshot: Snapshot, decision: Decision, request: BuildRequest
) -> Decision:
    name = make_build_job_name(request.digest, model.store_claim)
    deadlock = None if name in snapshot.jobs else find_build_deadlock(model, snapshot)
    if deadlock is not None:
        return replace(decision, problem=Problem(reason="StorageWouldDeadlock", message=deadlock))
    failed = decision.record.failed.get(request.digest)
    building = decide_job(name, request.digest, failed, model=model, snapshot=snapshot)
    return replace(decision, building=building)


def _is_cache_hit(model: Model, request: BuildRequest, artefact: Built) -> bool:
    """Return whether nothing was built for this model; the first answer about a key stays."""
    engine = model.status.engine
    if engine.key == artefact.key and engine.cache_hit is not None:
        return engine.cache_hit
    waited_for_it = model.status.build.job == make_build_job_name(request.digest, model.store_claim)
    return artefact.cache_hit if waited_for_it else True
