"""One step of one model: from what is wanted and what is there to what to write. Pure.

Every event leads here, and whatever comes out is the same for the same facts: a step that was cut
off is simply taken again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmjp_operator.decide.decision import Decision, state
from llmjp_operator.decide.garbage import collecting, collection_job, superfluous
from llmjp_operator.decide.work import JobStage
from llmjp_operator.names import API_VERSION, KIND
from llmjp_operator.observe.managed_fields import digest_of
from llmjp_operator.observe.snapshot import ObjectRef
from llmjp_operator.render import jobs, network, service, storage
from llmjp_operator.report.notices import Notice, notices
from llmjp_operator.report.status import status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmjp_operator.api import Model, Status
    from llmjp_operator.decide.work import JobDecision
    from llmjp_operator.observe.snapshot import ObservedJob, Snapshot
    from llmjp_operator.observe.store_record import StoreRecord
    from llmjp_operator.settings import Settings

Object = dict[str, Any]

PROGRESS_EVERY_S = 10.0
"""How often a running build's log is looked at."""


LOOKED_FOR = frozenset({"ClaimMissing", "TextsMissing", "StorageWouldDeadlock"})
"""Problems with objects that are not ours: nobody tells when they are mended."""
LOOK_EVERY_S = 20.0
"""How often those are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """An object that is to go, if it is still the one that was seen."""

    ref: ObjectRef
    uid: str = ""
    """Empty: whichever has the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilePlan:
    """What to write, in this order."""

    first: tuple[Removal, ...]
    """To remove before anything is written: Jobs whose results must not be read again."""
    record: StoreRecord | None
    """None: it has not changed."""
    apply: tuple[Object, ...]
    """Objects that are missing or differ."""
    join: tuple[Object, ...]
    """Further owners of objects that another model has made."""
    remove: tuple[Removal, ...]
    status: Status
    """Is compared with the model's, and written if it differs."""
    notices: tuple[Notice, ...]
    """To be told as events, once the status is written."""
    requeue_after_s: float | None
    """When to look again though nothing happened; None: not before something happens."""

    @property
    def creates_pods(self) -> bool:
        """Whether pods may be made of what is written."""
        return any(obj["kind"] in {"Deployment", "Job"} for obj in self.apply)


def reconcile(model: Model, snapshot: Snapshot, settings: Settings) -> ReconcilePlan:
    """What to do about a model."""
    decision = state(model, snapshot, settings)
    removed, collector = collecting(model, snapshot, decision)
    first = tuple(_spent(snapshot, decision, removed))
    decision = replace(decision, record=decision.record.without_artefacts(removed))
    wanted = list(_wanted(model, decision, settings))
    if collector:
        wanted.append(
            jobs.collect_job(model, collector, settings, single_node=decision.single_node)
        )
    made = [obj for obj in wanted if _differs(obj, snapshot)]
    said = status(model, snapshot, decision)
    return ReconcilePlan(
        first=first,
        record=None if decision.record == snapshot.record else decision.record,
        apply=tuple(made),
        join=tuple(_joined(model, snapshot, decision)),
        remove=tuple(_removed(model, snapshot, decision, wanted)),
        status=said,
        notices=notices(model, said),
        requeue_after_s=_again(snapshot, decision),
    )


def _wanted(model: Model, decision: Decision, settings: Settings) -> Iterator[Object]:
    """Every object that should exist, in the order that they are made in."""
    if decision.problem is not None and decision.deployment is None:
        return
    yield service.service_account(model)
    yield from filter(None, (network.builders_policy(model, settings),))
    yield from filter(None, (storage.claim(model),))
    yield from _jobs(model, decision, settings)
    if decision.deployment is not None:
        yield from filter(None, (network.serving_policy(model, settings),))
        yield from service.services(model)
        yield service.disruption_budget(model)
        yield decision.deployment


def _jobs(model: Model, decision: Decision, settings: Settings) -> Iterator[Object]:
    """Jobs that are to be made; those that are there are never changed."""
    if decision.resolving is not None and decision.resolving.create:
        attempt = decision.resolving.attempt
        yield jobs.resolve_job(model, settings, attempt=attempt, single_node=decision.single_node)
    if decision.building is not None and decision.building.create:
        assert decision.request is not None
        assert decision.sizes is not None
        yield jobs.build_job(
            model,
            decision.request,
            settings,
            needs=decision.sizes,
            attempt=decision.building.attempt,
            single_node=decision.single_node,
        )


def _differs(wanted: Object, snapshot: Snapshot) -> bool:
    ref = ObjectRef(wanted["kind"], wanted["metadata"]["name"])
    return snapshot.live.get(ref) != digest_of(wanted)


def _joined(model: Model, snapshot: Snapshot, decision: Decision) -> Iterator[Object]:
    """Says of a Job that somebody else made that this model needs it as well."""
    job = _running(decision.building, snapshot)
    if job is None or model.uid in job.owners:
        return
    owners = {m.uid: m.name for m in snapshot.sharing if m.uid in job.owners or m.uid == model.uid}
    yield {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job.name,
            "namespace": model.namespace,
            "ownerReferences": [
                {"apiVersion": API_VERSION, "kind": KIND, "name": name, "uid": uid}
                for uid, name in sorted(owners.items())
            ],
        },
    }


def _running(work: JobDecision | None, snapshot: Snapshot) -> ObservedJob | None:
    job = None if work is None else snapshot.jobs.get(work.job)
    return None if job is None or job.deleting else job


def _spent(snapshot: Snapshot, decision: Decision, removed: frozenset[str]) -> Iterator[Removal]:
    """What built an artefact that was collected."""
    for job in snapshot.jobs.values():
        built = decision.record.artefacts.get(job.request)
        if job.finished and built is not None and built.key in removed:
            yield Removal(ref=ObjectRef("Job", job.name), uid=job.uid)


def _removed(
    model: Model, snapshot: Snapshot, decision: Decision, wanted: list[Object]
) -> Iterator[Removal]:
    """Jobs that nobody waits for, and objects that are wanted no longer."""
    for work in (decision.resolving, decision.building):
        if work is not None and work.remove is not None:
            yield Removal(ref=ObjectRef("Job", work.remove.name), uid=work.remove.uid)
    for job in snapshot.jobs.values():
        if not job.deleting and _is_stale(job, model, snapshot, decision):
            yield Removal(ref=ObjectRef("Job", job.name), uid=job.uid)
    named = {ObjectRef(obj["kind"], obj["metadata"]["name"]) for obj in wanted}
    for ref in sorted(snapshot.live.keys() - named):
        # What protects running pods stays while nothing new is begun.
        if ref.kind in _PRUNED and decision.problem is None:
            yield Removal(ref=ref)


_PRUNED = frozenset({"NetworkPolicy", "Service", "PodDisruptionBudget"})
"""Kinds whose objects go when they are wanted no longer. A model's other objects change, or go with
the model."""


def _is_stale(job: ObservedJob, model: Model, snapshot: Snapshot, decision: Decision) -> bool:
    """Whether this model alone had asked for a Job and asks for it no longer."""
    if model.uid not in job.owners:
        return False
    if job.component == "collect":
        # Its name stands for what it removes: left, it would pass for the next removal of the same.
        return job.succeeded and job.name != collection_job(
            model, superfluous(snapshot, decision.record)
        )
    if job.finished:
        return False
    wanted = {work.job for work in (decision.resolving, decision.building) if work is not None}
    if job.name in wanted or (decision.problem is not None and not _for_certain(decision)):
        return False
    others = [m for m in snapshot.sharing if m.uid in job.owners and m.uid != model.uid]
    return not any(other.status.build.job == job.name for other in others)


def _for_certain(decision: Decision) -> bool:
    """Whether the spec itself is refused, and not something around it that may be there again."""
    return decision.problem is not None and decision.problem.reason not in {
        "ClaimMissing",
        "TextsMissing",
    }


def _again(snapshot: Snapshot, decision: Decision) -> float | None:
    due = [
        max(work.due - snapshot.now, 0.1)
        for work in (decision.resolving, decision.building)
        if work is not None and work.due is not None
    ]
    if decision.building is not None and decision.building.stage is JobStage.RUNNING:
        due.append(PROGRESS_EVERY_S)
    if decision.problem is not None and decision.problem.reason in LOOKED_FOR:
        due.append(LOOK_EVERY_S)
    if decision.incompatible is not None:
        due.append(LOOK_EVERY_S)
    return min(due, default=None)
