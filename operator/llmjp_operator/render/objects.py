"""Every object of a model that should exist, in the order in which they are created. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmjp_operator.names import API_VERSION, KIND
from llmjp_operator.render import jobs, network, service, storage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmjp_operator.api import Model
    from llmjp_operator.decisions import Decision, GarbageDecision
    from llmjp_operator.observe.snapshot import ObservedJob
    from llmjp_operator.settings import Settings

Object = dict[str, Any]


def render_objects(
    model: Model,
    settings: Settings,
    decision: Decision,
    garbage: GarbageDecision,
    *,
    deployment: Object | None,
) -> Iterator[Object]:
    """Yield the objects, with the Deployment that was rendered already, if there is one."""
    if decision.problem is not None and deployment is None:
        return
    yield service.render_service_account(model)
    yield from filter(None, (network.render_builder_policy(model, settings),))
    yield from filter(None, (storage.render_claim(model),))
    yield from _render_jobs(model, settings, decision)
    if deployment is not None:
        yield from filter(None, (network.render_serving_policy(model, settings),))
        yield from service.render_services(model)
        yield service.render_disruption_budget(model)
        yield deployment
    if garbage.remove:
        yield jobs.render_collect_job(model, garbage, settings, single_node=decision.single_node)


def _render_jobs(model: Model, settings: Settings, decision: Decision) -> Iterator[Object]:
    """Yield Jobs that are to be created; those that exist are never changed."""
    for wanted in decision.jobs:
        if wanted.create:
            job = render_wanted_job(model, settings, decision, attempt=wanted.attempt)
            assert job is not None
            yield job


def render_wanted_job(
    model: Model, settings: Settings, decision: Decision, *, attempt: int = 1
) -> Object | None:
    """Return the Job whose result is the next that is missing; None where nothing is."""
    single_node = decision.single_node
    if decision.problem is not None or decision.artefact is not None:
        return None
    if decision.request is None:
        return jobs.render_resolve_job(model, settings, attempt=attempt, single_node=single_node)
    return jobs.render_build_job(
        model,
        decision.request,
        settings,
        needs=decision.estimate,
        attempt=attempt,
        single_node=single_node,
    )


def render_job_owners(model: Model, sharing: Iterable[Model], job: ObservedJob) -> Object:
    """Return the Job with this model as a further owner, beside those that exist."""
    owners = {m.uid: m.name for m in sharing if m.uid in job.owners or m.uid == model.uid}
    references = [
        {"apiVersion": API_VERSION, "kind": KIND, "name": name, "uid": uid}
        for uid, name in sorted(owners.items())
    ]
    metadata = {"name": job.name, "namespace": model.namespace, "ownerReferences": references}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}
