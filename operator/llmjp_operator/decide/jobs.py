"""The Jobs that pin a source and build an artefact: which to create, which to remove. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from llmjp_operator.decide.garbage import find_garbage, name_collect_job
from llmjp_operator.decide.job_results import find_next_attempt, is_outdated, list_pods
from llmjp_operator.decide.waiting import explain_job
from llmjp_operator.decisions import JobDecision, JobStage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmjp_operator.api import Model
    from llmjp_operator.decisions import Decision, Problem
    from llmjp_operator.observe.snapshot import ObservedJob, Snapshot
    from llmjp_operator.observe.store_record import FailedAttempts, StoreRecord

LOOK_AGAIN_S = 5.0
"""After how long a finished Job's pod is looked for again."""


def decide_job(
    name: str,
    wanted: str,
    failed: FailedAttempts | None,
    *,
    pods: str,
    model: Model,
    snapshot: Snapshot,
    record: StoreRecord,
) -> JobDecision:
    """Return what to do about a result that is not there yet.

    Args:
        name: name of the Job that finds it.
        wanted: digest of what is to be found.
        failed: what was recorded about pods such as these.
        pods: digest of the pods that the Job would have if it were made now.
        model: who wants it.
        snapshot: the cluster.
        record: with all failures that are known.
    """
    job = snapshot.jobs.get(name)
    counts = failed if failed is not None and failed.asked == wanted else None
    if job is not None and _is_in_the_way(job, pods, model, snapshot):
        attempt = 1 if counts is None else counts.attempts + 1
        return JobDecision(
            job=name, stage=JobStage.STARTING, attempt=attempt, failed=counts, remove=job
        )
    if job is not None and not job.finished:
        waiting = explain_job(job, snapshot)
        stage = JobStage.STARTING if job.deleting else JobStage.RUNNING
        return JobDecision(
            job=name, stage=stage, attempt=job.attempt, failed=counts, waiting=waiting
        )
    if job is not None and not job.deleting and not record.has_counted(job.uid):
        due = snapshot.now + LOOK_AGAIN_S
        return JobDecision(
            job=name, stage=JobStage.ENDING, attempt=job.attempt, failed=counts, due=due
        )
    decision = _decide_next_attempt(name, failed, wanted, model=model, now=snapshot.now)
    if decision.stage is not JobStage.STARTING:
        return decision
    in_the_way = job if job is not None and not job.deleting else None
    return replace(decision, create=job is None, remove=in_the_way)


def _is_in_the_way(job: ObservedJob, pods: str, model: Model, snapshot: Snapshot) -> bool:
    """Return whether a Job can be of no use to the model, and has the name of one that would."""
    if job.deleting:
        return False
    return is_outdated(job, model, snapshot) or _has_other_pods(job, pods, model, snapshot)


def _has_other_pods(job: ObservedJob, pods: str, model: Model, snapshot: Snapshot) -> bool:
    """Return whether a Job waits to start with pods that the model would make otherwise by now.

    A build that runs goes on: if it fails, what has changed since is tried at once. The Job of
    another model is that model's while it waits for it. Jobs of older operators do not say what
    their pods are.
    """
    if job.finished or job.deleting or not job.pods or job.pods == pods:
        return False
    found = list(list_pods(job, snapshot))
    if any(pod.phase not in _NOT_STARTED for pod in found):
        return False
    if job.model == model.name:
        return True
    makers = (m for m in snapshot.sharing if m.name == job.model)
    wanted_by_maker = any(m.status.build.job == job.name for m in makers)
    return not wanted_by_maker and any(pod.waiting for pod in found)


_NOT_STARTED: Final = frozenset({"", "Pending"})
"""Phases of pods in which no container has run."""


def _decide_next_attempt(
    name: str, failed: FailedAttempts | None, wanted: str, *, model: Model, now: float
) -> JobDecision:
    """Return whether to try now, later or never."""
    counts = failed if failed is not None and failed.asked == wanted else None
    following = find_next_attempt(failed, wanted, model)
    if following is None:
        attempts = counts.attempts if counts else 1
        return JobDecision(job=name, stage=JobStage.FAILED, attempt=attempts, failed=counts)
    attempt, due = following
    if due <= now:
        return JobDecision(job=name, stage=JobStage.STARTING, attempt=attempt, failed=counts)
    return JobDecision(job=name, stage=JobStage.PAUSED, attempt=attempt, failed=counts, due=due)


def find_unowned_job(model: Model, snapshot: Snapshot, decision: Decision) -> ObservedJob | None:
    """Return the build that this model waits for, where another model created it alone."""
    building = decision.building
    job = None if building is None else snapshot.jobs.get(building.job)
    return None if job is None or job.deleting or model.uid in job.owners else job


def find_stale_jobs(model: Model, snapshot: Snapshot, decision: Decision) -> Iterator[ObservedJob]:
    """Yield Jobs that this model alone wanted and wants no longer."""
    for job in snapshot.jobs.values():
        if not job.deleting and _is_stale(job, model, snapshot, decision):
            yield job


def _is_stale(job: ObservedJob, model: Model, snapshot: Snapshot, decision: Decision) -> bool:
    if model.uid not in job.owners:
        return False
    if job.component == "collect":
        # Its name stands for what it removes: left, it would pass for the next removal of the same.
        garbage = find_garbage(snapshot, decision.record)
        return job.succeeded and job.name != name_collect_job(model, garbage)
    if job.finished:
        return False
    if job.name in {wanted.job for wanted in decision.jobs}:
        return False
    if decision.problem is not None and _may_vanish(decision.problem):
        return False
    others = [m for m in snapshot.sharing if m.uid in job.owners and m.uid != model.uid]
    return not any(other.status.build.job == job.name for other in others)


def _may_vanish(problem: Problem) -> bool:
    """Return whether the problem is not with the spec, but with an object that may come back."""
    return problem.reason in {"ClaimMissing", "TextsMissing"}
