"""The Jobs that pin a source and build an artefact: what one does, what to do about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from llmjp_operator.decide.job_results import next_attempt, pods_of

if TYPE_CHECKING:
    from llmjp_operator.api import Model
    from llmjp_operator.observe.snapshot import ObservedJob, Snapshot
    from llmjp_operator.observe.store_record import FailedAttempts


class JobStage(Enum):
    """Where a piece of work is."""

    STARTING = "starting"
    """Its Job is to be made, or an earlier one is on its way out."""
    RUNNING = "running"
    """Its Job is there and not finished."""
    ENDING = "ending"
    """Its Job finished; what it left was not seen yet."""
    PAUSED = "paused"
    """It failed and will be tried again."""
    FAILED = "failed"
    """It failed and will not be tried again as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDecision:
    """One piece of work."""

    job: str
    """Name of its Job."""
    stage: JobStage
    attempt: int
    """Of the Job that runs or is to be made."""
    failed: FailedAttempts | None = None
    """The last failure that counts."""
    due: float | None = None
    """When it is tried again, in seconds since 1970."""
    waiting: str = ""
    """Why the Job's pod does not run, in Kubernetes' words."""
    create: bool = False
    """Whether the Job is to be made now."""
    remove: ObservedJob | None = None
    """A finished Job that is in the way of the next one."""


LOOK_AGAIN_S = 5.0
"""After how long a finished Job's pod is looked for again."""


def work(
    name: str, asked: str, failed: FailedAttempts | None, *, model: Model, snapshot: Snapshot
) -> JobDecision:
    """What is done, and to be done, about something that is not there yet.

    Args:
        name: of its Job.
        asked: digest of what is to be done.
        failed: what was recorded about it.
        model: what asks.
        snapshot: the cluster.
    """
    job = snapshot.jobs.get(name)
    counts = failed if failed is not None and failed.asked == asked else None
    if job is not None and not job.finished:
        waiting = next((pod.waiting for pod in pods_of(job, snapshot) if pod.waiting), "")
        stage = JobStage.STARTING if job.deleting else JobStage.RUNNING
        return JobDecision(
            job=name, stage=stage, attempt=job.attempt, failed=counts, waiting=waiting
        )
    if job is not None and not job.deleting and (counts is None or counts.job != job.uid):
        due = snapshot.now + LOOK_AGAIN_S
        return JobDecision(
            job=name, stage=JobStage.ENDING, attempt=job.attempt, failed=counts, due=due
        )
    upcoming = next_attempt(failed, asked, model)
    if upcoming is None:
        attempts = counts.attempts if counts else 1
        return JobDecision(job=name, stage=JobStage.FAILED, attempt=attempts, failed=counts)
    attempt, due = upcoming
    if due > snapshot.now:
        return JobDecision(job=name, stage=JobStage.PAUSED, attempt=attempt, failed=counts, due=due)
    return JobDecision(
        job=name,
        stage=JobStage.STARTING,
        attempt=attempt,
        failed=counts,
        create=job is None,
        remove=job if job is not None and not job.deleting else None,
    )
