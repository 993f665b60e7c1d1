"""Where a model is between its spec and pods that answer: every decision, once. Pure.

`reconcile` makes objects of it, `status` sentences.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmjp_operator.decide.build_request import request_of
from llmjp_operator.decide.job_results import absorbed
from llmjp_operator.decide.placement import build_problem, incompatible, on_one_node
from llmjp_operator.decide.rollout import RolloutDecision, became_ready, choice, served
from llmjp_operator.decide.sizing import ResourceEstimate, sizes
from llmjp_operator.decide.validation import Problem, problem
from llmjp_operator.decide.work import JobDecision, work
from llmjp_operator.names import build_job, resolve_job
from llmjp_operator.observe.store_record import source_entry
from llmjp_operator.render.serving import deployment, pod_digest

if TYPE_CHECKING:
    from typing import Any

    from llmjp_builder.contracts.spec import Built, Resolution
    from llmjp_operator.api import Model
    from llmjp_operator.decide.build_request import BuildRequest
    from llmjp_operator.observe.snapshot import Snapshot
    from llmjp_operator.observe.store_record import StoreRecord
    from llmjp_operator.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is so, and what is decided."""

    record: StoreRecord
    """With what finished Jobs left, and what became ready."""
    problem: Problem | None = None
    """Why nothing new is begun."""
    found: Resolution | None = None
    """The source, once it is pinned."""
    resolving: JobDecision | None = None
    """Until then."""
    sizes: ResourceEstimate | None = None
    """What building and serving need, once the source is pinned."""
    request: BuildRequest | None = None
    """What is to be built, once the source is pinned."""
    built: Built | None = None
    """The artefact that is asked for, once it is there."""
    building: JobDecision | None = None
    """Until then."""
    cache_hit: bool | None = None
    """Whether it was there without a build for this model."""
    incompatible: str | None = None
    """Why it would not load where its pods would go."""
    choice: RolloutDecision | None = None
    """What to deploy."""
    deployment: dict[str, Any] | None = None
    """The object."""
    single_node: bool = False
    """Whether all pods of the store must be on one node."""

    @property
    def pods(self) -> str:
        """Digest of the pods that are deployed."""
        return "" if self.deployment is None else pod_digest(self.deployment)


def state(model: Model, snapshot: Snapshot, settings: Settings) -> Decision:
    """The state of one model."""
    record = absorbed(model, snapshot)
    obstacle = problem(model, snapshot, settings)
    if obstacle is not None:
        return _without_target(Decision(record=record, problem=obstacle), model, snapshot, settings)
    pinned, asked = record.sources.get(model.name), model.spec.source.reference_digest
    if pinned is None or (pinned.asked, pinned.uid) != (asked, model.uid):
        failed = record.failed.get(source_entry(model.name))
        resolving = work(
            resolve_job(model.name, asked), asked, failed, model=model, snapshot=snapshot
        )
        return _without_target(
            Decision(record=record, resolving=resolving), model, snapshot, settings
        )
    return _once_pinned(model, snapshot, settings, record=record, found=pinned.found)


def _once_pinned(
    model: Model, snapshot: Snapshot, settings: Settings, *, record: StoreRecord, found: Resolution
) -> Decision:
    needed = sizes(model.spec, found)
    request = request_of(model, found, snapshot.texts.digest if snapshot.texts else None)
    begun = Decision(record=record, found=found, sizes=needed, request=request)
    if needed.refusal is not None:
        obstacle = Problem(reason="CannotWork", message=needed.refusal)
        refused = Decision(
            record=record, found=found, sizes=needed, request=request, problem=obstacle
        )
        return _without_target(refused, model, snapshot, settings)
    built = record.artefacts.get(request.digest)
    if built is None:
        failed = record.failed.get(request.digest)
        name = build_job(request.digest, model.store_claim)
        waits = build_problem(model, snapshot) if name not in snapshot.jobs else None
        if waits is not None:
            obstacle = Problem(reason="StorageWouldDeadlock", message=waits)
            return _without_target(_with(begun, problem=obstacle), model, snapshot, settings)
        building = work(name, request.digest, failed, model=model, snapshot=snapshot)
        return _without_target(_with(begun, building=building), model, snapshot, settings)
    against = incompatible(model.spec, _built_for(built), snapshot.nodes)
    hit = _cache_hit(model, request, built)
    if against is not None:
        refused = _with(begun, built=built, incompatible=against, cache_hit=hit)
        return _without_target(refused, model, snapshot, settings)
    return _with_target(
        _with(begun, built=built, cache_hit=hit),
        built,
        model=model,
        snapshot=snapshot,
        settings=settings,
    )


def _cache_hit(model: Model, request: BuildRequest, built: Built) -> bool:
    """Whether nothing was built for this model: kept from when that was first said of this key."""
    engine = model.status.engine
    if engine.key == built.key and engine.cache_hit is not None:
        return engine.cache_hit
    waited_for_it = model.status.build.job == build_job(request.digest, model.store_claim)
    return built.cache_hit if waited_for_it else True


def _built_for(built: Built) -> dict[str, str]:
    values = {
        "gpu_product": built.gpu_product,
        "compute_capability": built.compute_capability,
        "tensorrt_llm": built.tensorrt_llm,
        "tensorrt": built.tensorrt,
    }
    return {name: value for name, value in values.items() if value is not None}


def _with(begun: Decision, **changes: Any) -> Decision:
    return replace(begun, **changes)


def _without_target(
    begun: Decision, model: Model, snapshot: Snapshot, settings: Settings
) -> Decision:
    """What served last goes on serving."""
    chosen = choice(model, snapshot, begun.record, None)
    return _deployed(begun, chosen, model=model, snapshot=snapshot, settings=settings)


def _with_target(
    begun: Decision, built: Built, *, model: Model, snapshot: Snapshot, settings: Settings
) -> Decision:
    wanted = _deployment(RolloutDecision(model=model, built=built), begun, snapshot, settings)
    chosen = choice(model, snapshot, begun.record, built, pods_of_target=pod_digest(wanted))
    deployed = _deployed(begun, chosen, model=model, snapshot=snapshot, settings=settings)
    if (
        chosen is not None
        and not chosen.rolled_back
        and became_ready(snapshot.deployment, deployed.pods)
    ):
        record = deployed.record.with_served(model.name, served(model, built.key))
        return _with(deployed, record=record)
    return deployed


def _deployed(
    begun: Decision,
    chosen: RolloutDecision | None,
    *,
    model: Model,
    snapshot: Snapshot,
    settings: Settings,
) -> Decision:
    single_node = on_one_node(model, snapshot)
    if chosen is None:
        return _with(begun, single_node=single_node)
    made = _deployment(chosen, begun, snapshot, settings)
    return _with(begun, choice=chosen, deployment=made, single_node=single_node)


def _deployment(
    chosen: RolloutDecision, begun: Decision, snapshot: Snapshot, settings: Settings
) -> dict[str, Any]:
    pinned = begun.record.sources.get(chosen.model.name)
    found = begun.found or (None if pinned is None else pinned.found)
    memory = None if found is None else sizes(chosen.model.spec, found).serving_memory_bytes
    return deployment(
        chosen.model,
        chosen.built,
        settings,
        host_memory_bytes=memory,
        single_node=on_one_node(chosen.model, snapshot),
        failed_rollout=chosen.failed_rollout,
    )
