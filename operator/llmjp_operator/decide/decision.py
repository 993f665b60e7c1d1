"""Where a model is between its spec and pods that answer: every decision, once. Pure.

`reconcile` makes objects of it, `status` sentences.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmjp_operator.decide.build_request import request_of, source_digest
from llmjp_operator.decide.job_results import absorbed
from llmjp_operator.decide.placement import build_problem, incompatible, on_one_node
from llmjp_operator.decide.rollout import Choice, became_ready, choice, served
from llmjp_operator.decide.sizing import Sizes, sizes
from llmjp_operator.decide.validation import Problem, problem
from llmjp_operator.decide.work import Work, work
from llmjp_operator.names import build_job, resolve_job
from llmjp_operator.observe.store_record import source_entry
from llmjp_operator.render.metadata import claim_name
from llmjp_operator.render.serving import deployment, pod_digest

if TYPE_CHECKING:
    from typing import Any

    from llmjp_builder.spec import Built, Resolution
    from llmjp_operator.api import Model
    from llmjp_operator.decide.build_request import Request
    from llmjp_operator.observe.snapshot import Facts
    from llmjp_operator.observe.store_record import Record
    from llmjp_operator.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is so, and what is decided."""

    record: Record
    """With what finished Jobs left, and what became ready."""
    problem: Problem | None = None
    """Why nothing new is begun."""
    found: Resolution | None = None
    """The source, once it is pinned."""
    resolving: Work | None = None
    """Until then."""
    sizes: Sizes | None = None
    """What building and serving need, once the source is pinned."""
    request: Request | None = None
    """What is to be built, once the source is pinned."""
    built: Built | None = None
    """The artefact that is asked for, once it is there."""
    building: Work | None = None
    """Until then."""
    cache_hit: bool | None = None
    """Whether it was there without a build for this model."""
    incompatible: str | None = None
    """Why it would not load where its pods would go."""
    choice: Choice | None = None
    """What to deploy."""
    deployment: dict[str, Any] | None = None
    """The object."""
    together: bool = False
    """Whether all pods of the store must be on one node."""

    @property
    def pods(self) -> str:
        """Digest of the pods that are deployed."""
        return "" if self.deployment is None else pod_digest(self.deployment)


def state(model: Model, facts: Facts, settings: Settings) -> State:
    """The state of one model."""
    record = absorbed(model, facts)
    obstacle = problem(model, facts, settings)
    if obstacle is not None:
        return _without_target(State(record=record, problem=obstacle), model, facts, settings)
    pinned, asked = record.sources.get(model.name), source_digest(model.spec)
    if pinned is None or (pinned.asked, pinned.uid) != (asked, model.uid):
        failed = record.failed.get(source_entry(model.name))
        resolving = work(resolve_job(model.name, asked), asked, failed, model=model, facts=facts)
        return _without_target(State(record=record, resolving=resolving), model, facts, settings)
    return _once_pinned(model, facts, settings, record=record, found=pinned.found)


def _once_pinned(
    model: Model, facts: Facts, settings: Settings, *, record: Record, found: Resolution
) -> State:
    needed = sizes(model.spec, found)
    request = request_of(model, found, facts.texts.digest if facts.texts else None)
    begun = State(record=record, found=found, sizes=needed, request=request)
    if needed.refusal is not None:
        obstacle = Problem(reason="CannotWork", message=needed.refusal)
        refused = State(record=record, found=found, sizes=needed, request=request, problem=obstacle)
        return _without_target(refused, model, facts, settings)
    built = record.artefacts.get(request.digest)
    if built is None:
        failed = record.failed.get(request.digest)
        name = build_job(request.digest, claim_name(model))
        waits = build_problem(model, facts) if name not in facts.jobs else None
        if waits is not None:
            obstacle = Problem(reason="StorageWouldDeadlock", message=waits)
            return _without_target(_with(begun, problem=obstacle), model, facts, settings)
        building = work(name, request.digest, failed, model=model, facts=facts)
        return _without_target(_with(begun, building=building), model, facts, settings)
    against = incompatible(model.spec, _built_for(built), facts.nodes)
    hit = _cache_hit(model, request, built)
    if against is not None:
        refused = _with(begun, built=built, incompatible=against, cache_hit=hit)
        return _without_target(refused, model, facts, settings)
    return _with_target(
        _with(begun, built=built, cache_hit=hit), built, model=model, facts=facts, settings=settings
    )


def _cache_hit(model: Model, request: Request, built: Built) -> bool:
    """Whether nothing was built for this model: kept from when that was first said of this key."""
    engine = model.status.engine
    if engine.key == built.key and engine.cache_hit is not None:
        return engine.cache_hit
    waited_for_it = model.status.build.job == build_job(request.digest, claim_name(model))
    return built.cache_hit if waited_for_it else True


def _built_for(built: Built) -> dict[str, str]:
    values = {
        "gpu_product": built.gpu_product,
        "compute_capability": built.compute_capability,
        "tensorrt_llm": built.tensorrt_llm,
        "tensorrt": built.tensorrt,
    }
    return {name: value for name, value in values.items() if value is not None}


def _with(begun: State, **changes: Any) -> State:
    return replace(begun, **changes)


def _without_target(begun: State, model: Model, facts: Facts, settings: Settings) -> State:
    """What served last goes on serving."""
    chosen = choice(model, facts, begun.record, None)
    return _deployed(begun, chosen, model=model, facts=facts, settings=settings)


def _with_target(
    begun: State, built: Built, *, model: Model, facts: Facts, settings: Settings
) -> State:
    wanted = _deployment(Choice(model=model, built=built), begun, facts, settings)
    chosen = choice(model, facts, begun.record, built, pods_of_target=pod_digest(wanted))
    deployed = _deployed(begun, chosen, model=model, facts=facts, settings=settings)
    if (
        chosen is not None
        and not chosen.taken_back
        and became_ready(facts.deployment, deployed.pods)
    ):
        record = deployed.record.with_served(model.name, served(model, built.key))
        return _with(deployed, record=record)
    return deployed


def _deployed(
    begun: State, chosen: Choice | None, *, model: Model, facts: Facts, settings: Settings
) -> State:
    together = on_one_node(model, facts)
    if chosen is None:
        return _with(begun, together=together)
    made = _deployment(chosen, begun, facts, settings)
    return _with(begun, choice=chosen, deployment=made, together=together)


def _deployment(chosen: Choice, begun: State, facts: Facts, settings: Settings) -> dict[str, Any]:
    pinned = begun.record.sources.get(chosen.model.name)
    found = begun.found or (None if pinned is None else pinned.found)
    memory = None if found is None else sizes(chosen.model.spec, found).serving_memory_bytes
    return deployment(
        chosen.model,
        chosen.built,
        settings,
        host_memory_bytes=memory,
        together=on_one_node(chosen.model, facts),
        failed_rollout=chosen.failed_rollout,
    )
