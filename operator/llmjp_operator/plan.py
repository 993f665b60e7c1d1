"""One page for one reconcile of one model: decide, render, report. Pure.

Every event leads here, and the same snapshot always gives the same plan: a reconcile that was cut
off is simply run again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmjp_operator.decide.garbage import decide_garbage
from llmjp_operator.decide.jobs import find_stale_jobs, find_unowned_job
from llmjp_operator.decide.requeue import decide_requeue
from llmjp_operator.decide.revisions import adopt_deployment, find_old_revisions
from llmjp_operator.decide.rollout import (
    decide_candidate,
    decide_rollout,
    find_active_key,
    find_reason_to_remove,
    note_progress,
    record_rollout,
    was_rolled_back,
)
from llmjp_operator.decide.target import decide_target, decide_wanted_job
from llmjp_operator.names import make_first_headless_name, make_record_name
from llmjp_operator.observe.managed_fields import compute_object_digest
from llmjp_operator.observe.snapshot import ObjectRef
from llmjp_operator.render.metadata import get_pod_digest
from llmjp_operator.render.objects import render_job_owners, render_objects, render_wanted_job
from llmjp_operator.render.revision import render_revision
from llmjp_operator.render.serving import make_revision, render_deployment
from llmjp_operator.report.notices import Notice, find_notices
from llmjp_operator.report.status import build_status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmjp_operator.api import Model, Status
    from llmjp_operator.decisions import Candidate, Decision
    from llmjp_operator.observe.revision import Revision
    from llmjp_operator.observe.snapshot import ObservedJob, Snapshot
    from llmjp_operator.observe.store_record import StoreRecord
    from llmjp_operator.settings import Settings

Object = dict[str, Any]

_PRUNED_KINDS = frozenset({"NetworkPolicy", "Service", "PodDisruptionBudget"})
"""Kinds whose objects go when they are wanted no longer. A model's other objects change, or go with
the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """An object to remove, if it is still the one that was seen."""

    ref: ObjectRef
    uid: str = ""
    """Empty: whichever has the name."""
    reason: str
    """For `details`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilePlan:
    """Everything to write, in this order."""

    remove_first: tuple[Removal, ...]
    """To remove before anything is written: Jobs whose results must not be read again, revisions
    whose artefacts are gone."""
    record: StoreRecord | None
    """The record of the store; None where it has not changed."""
    apply: tuple[Object, ...]
    """Objects that are missing or differ."""
    add_owners: tuple[Object, ...]
    """Owners of Jobs that another model created."""
    remove: tuple[Removal, ...]
    status: Status
    """Written if it differs from the model's."""
    notices: tuple[Notice, ...]
    """To be posted as events, once the status is written."""
    requeue_after_s: float | None
    """When to look again though nothing happened; None for not before something happens."""
    details: tuple[str, ...]
    """What is written and why, a line each, for the log."""

    @property
    def rolls(self) -> bool:
        """Whether what is written may replace pods that serve."""
        return any(obj["kind"] == "Deployment" for obj in self.apply)

    @property
    def creates_pods(self) -> bool:
        """Whether what is written may create pods."""
        return any(obj["kind"] in {"Deployment", "Job"} for obj in self.apply)


def plan_reconcile(model: Model, snapshot: Snapshot, settings: Settings) -> ReconcilePlan:
    """Return what to write for a model."""
    decision = decide_target(model, snapshot, settings)
    wanted_job = render_wanted_job(model, settings, decision)
    pods = "" if wanted_job is None else get_pod_digest(wanted_job)
    decision = decide_wanted_job(model, snapshot, decision, pods)
    decision, rollout = _plan_rollout(model, snapshot, settings, decision)
    garbage = decide_garbage(model, snapshot, decision)
    record = decision.record.without_artefacts(garbage.removed)
    active = find_active_key(model, snapshot, record)
    decision = replace(decision, record=record, active_key=active)

    revisions = list(_render_revisions(model, snapshot, rollout, decision))
    objects = list(
        render_objects(model, settings, decision, garbage, deployment=rollout.deployment)
    )
    unowned = find_unowned_job(model, snapshot, decision)
    owners = () if unowned is None else (render_job_owners(model, snapshot.sharing, unowned),)

    new_status = build_status(model, snapshot, decision)
    plan = ReconcilePlan(
        remove_first=(
            *_remove_jobs(garbage.spent_jobs, "its artefact is removed"),
            *_remove_revisions(model, snapshot, decision, garbage.removed),
        ),
        record=record if record != snapshot.record and _may_record(model, snapshot) else None,
        apply=tuple(
            obj
            for obj in (*revisions, *objects)
            if snapshot.live.get(_ref(obj)) != compute_object_digest(obj)
            and _ref(obj) not in snapshot.taken
        ),
        add_owners=owners,
        remove=tuple(_plan_removals(model, snapshot, decision, objects)),
        status=new_status,
        notices=find_notices(model, new_status),
        requeue_after_s=decide_requeue(snapshot, decision),
        details=(),
    )
    return replace(plan, details=tuple(_explain(plan, snapshot)))


def _plan_rollout(
    model: Model, snapshot: Snapshot, settings: Settings, decision: Decision
) -> tuple[Decision, _Rollout]:
    """Return the decision with its rollout, and the objects that it needs.

    A revision is rendered once, when it is made; from then on it is applied as it was stored.
    """
    candidate = decide_candidate(model, decision, settings)

    def make(of: Candidate) -> Revision:
        number = max((r.number for r in snapshot.revisions), default=0) + 1
        return make_revision(of, settings, single_node=decision.single_node, number=number)

    adopted = adopt_deployment(
        model, snapshot, decision, None if candidate is None else candidate.inputs
    )
    if adopted is not None:
        snapshot = replace(snapshot, revisions=(adopted,))
        if candidate is not None and was_rolled_back(model, snapshot):
            failed = replace(make(candidate), failed=model.retry)
            snapshot = replace(snapshot, revisions=(adopted, failed))
    rollout = decide_rollout(model, snapshot, decision, candidate, settings=settings)
    if rollout is None:
        # Nobody knows what should run, so what runs stays, with all that belongs to it.
        goes = find_reason_to_remove(model, snapshot, decision)
        alone = snapshot.deployment is not None and not goes
        return replace(decision, left_alone=alone), _Rollout(snapshot)
    revision = rollout.revision
    if revision is None:
        assert rollout.candidate is not None, "a revision is made of something"
        revision = make(rollout.candidate)
    revision = note_progress(revision, rollout, snapshot)
    rollout = replace(rollout, revision=revision)
    decision = replace(decision, rollout=rollout, pod_digest=revision.pods)
    decision = replace(decision, record=record_rollout(model, snapshot, decision))
    return decision, _Rollout(snapshot, render_deployment(model, revision), revision)


@dataclass(frozen=True, slots=True)
class _Rollout:
    """What a rollout needs."""

    snapshot: Snapshot
    """With the revisions that an upgrade has found."""
    deployment: Object | None = None
    revision: Revision | None = None
    """What the Deployment runs."""


def _render_revisions(
    model: Model, seen: Snapshot, rollout: _Rollout, decision: Decision
) -> Iterator[Object]:
    """Yield the revisions that are new, or of which something else is known now."""
    found = {r.name: r for r in rollout.snapshot.revisions}
    if rollout.revision is not None:
        found[rollout.revision.name] = rollout.revision
    failed = None if decision.rollout is None else decision.rollout.failed
    if failed is not None:
        found[failed.name] = replace(failed, failed=model.retry)
    stored = {r.name: r for r in seen.revisions}
    for name, revision in sorted(found.items()):
        if stored.get(name) != revision:
            yield render_revision(model, revision)


def _may_record(model: Model, snapshot: Snapshot) -> bool:
    """Return whether the record's name is ours: otherwise the model is blocked until it is."""
    return ObjectRef("ConfigMap", make_record_name(model.store_claim)) not in snapshot.taken


def _plan_removals(
    model: Model, snapshot: Snapshot, decision: Decision, objects: list[Object]
) -> Iterator[Removal]:
    """Yield Jobs that nobody waits for, and objects that are wanted no longer."""
    in_the_way = [job.remove for job in decision.jobs if job.remove is not None]
    for job in in_the_way:
        finished, unstarted = "the next attempt takes its name", "its pods are wanted otherwise"
        yield from _remove_jobs([job], finished if job.finished else unstarted)
    yield from _remove_jobs(find_stale_jobs(model, snapshot, decision), "no model waits for it")
    wanted = {_ref(obj) for obj in objects}
    deployment, live = ObjectRef("Deployment", model.name), snapshot.deployment
    reason = find_reason_to_remove(model, snapshot, decision)
    if reason and live is not None and deployment not in wanted:
        yield Removal(ref=deployment, uid=live.uid, reason=reason)
    # What protects running pods stays while nothing new is begun.
    if decision.problem is not None or decision.left_alone:
        return
    for ref in sorted(snapshot.live.keys() - wanted):
        if ref.kind in _PRUNED_KINDS and not _is_still_published(ref, model, snapshot, decision):
            yield Removal(ref=ref, uid=snapshot.uids[ref], reason="the spec asks for none")


def _remove_revisions(
    model: Model, snapshot: Snapshot, decision: Decision, removed: frozenset[str]
) -> Iterator[Removal]:
    for revision in find_old_revisions(model, snapshot, decision, removed):
        ref = ObjectRef("ControllerRevision", revision.name)
        yield Removal(ref=ref, uid=snapshot.uids.get(ref, ""), reason="it is kept no longer")


def _is_still_published(
    ref: ObjectRef, model: Model, snapshot: Snapshot, decision: Decision
) -> bool:
    """Return whether it is a Service of an older name, which clients may use until a rollout."""
    live = snapshot.deployment
    rolling = live is None or live.pods != decision.pod_digest
    return ref == ObjectRef("Service", make_first_headless_name(model.name)) and not rolling


def _remove_jobs(jobs: Iterable[ObservedJob], reason: str) -> Iterator[Removal]:
    for job in jobs:
        yield Removal(ref=ObjectRef("Job", job.name), uid=job.uid, reason=reason)


def _explain(plan: ReconcilePlan, snapshot: Snapshot) -> Iterator[str]:
    """Yield what is written and why, in the order of writing."""
    for removal in plan.remove_first:
        yield f"remove {removal.ref}: {removal.reason}"
    if plan.record is not None:
        yield "record what Jobs and pods have reached"
    for obj in plan.apply:
        yield f"apply {_ref(obj)}: {'changed' if _ref(obj) in snapshot.live else 'missing'}"
    for job in plan.add_owners:
        yield f"own {_ref(job)}: another model created it"
    for removal in plan.remove:
        yield f"remove {removal.ref}: {removal.reason}"
    for notice in plan.notices:
        yield f"post event {notice.reason}"


def _ref(obj: Object) -> ObjectRef:
    return ObjectRef(obj["kind"], obj["metadata"]["name"])
