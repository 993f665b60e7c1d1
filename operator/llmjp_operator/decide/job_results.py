"""Results and failures of finished Jobs, for the record, and when to try again. Pure.

Kubernetes retries no Job of ours (backoffLimit 0), as it cannot tell a failure that may pass from
one that will not; the builder can, and says so in its termination message.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from llmjp_builder.contracts.errors import BuilderError, CheckpointMissing, NotEnoughHostMemory
from llmjp_builder.contracts.spec import Built, Failure, Resolution, Step
from llmjp_operator.decisions import RESOLVE_LIMIT_S
from llmjp_operator.names import make_resolve_job_name
from llmjp_operator.observe.store_record import (
    FailedAttempts,
    PinnedSource,
    make_build_entry,
    make_source_entry,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmjp_operator.api import Model
    from llmjp_operator.observe.snapshot import ObservedJob, ObservedPod, Snapshot, Termination
    from llmjp_operator.observe.store_record import StoreRecord

C = TypeVar("C", Built, Resolution)

FIRST_PAUSE_S: Final = 10.0
"""Before the first retry; it doubles each time."""
LONGEST_PAUSE_S: Final = 600.0
_MOST_DOUBLINGS: Final = 10
"""Enough for the longest pause, and no number too large for any number of evictions."""
LOST_AFTER_S: Final = 30.0
"""A finished Job's pod that was not seen to end by then is gone, and its message with it."""
LOST_POD: Final = "pod_lost"
DEADLINE: Final = "deadline_exceeded"
"""Codes of failures that the builder could not report itself."""


@dataclass(frozen=True, slots=True)
class _FinishedJob:
    """A Job that finished."""

    job: ObservedJob
    pod: ObservedPod | None
    model: Model
    """Whose snapshot it is in."""
    snapshot: Snapshot


def absorb_job_results(model: Model, snapshot: Snapshot) -> StoreRecord:
    """Return the record with what Jobs of the model and its store left since it was written."""
    claim = snapshot.claims.get(model.store_claim)
    claim_uid = "" if claim is None or claim.deleting else claim.uid
    record = snapshot.record.for_claim(claim_uid)
    reference = model.spec.source.reference_digest
    for job in snapshot.jobs.values():
        if not job.finished or job.deleting or is_outdated(job, model, snapshot):
            continue
        finished = _FinishedJob(job, _find_pod(job, snapshot), model, snapshot)
        if job.name == make_resolve_job_name(model.name, reference):
            record = _record_resolution(record, finished, reference)
        elif job.request:
            record = _record_artefact(record, finished)
    return record.for_claim(claim_uid)


def _record_resolution(record: StoreRecord, finished: _FinishedJob, asked: str) -> StoreRecord:
    model = finished.model
    known = record.sources.get(model.name)
    if known is not None and known.asked == asked and known.uid == model.uid:
        return record
    if finished.job.succeeded and (resolution := _parse_result(finished.pod, Resolution)):
        pinned = PinnedSource(asked=asked, uid=model.uid, found=resolution)
        return record.with_source(model.name, pinned)
    return _record_failure(record, make_source_entry(model.name), asked, finished)


def _record_artefact(record: StoreRecord, finished: _FinishedJob) -> StoreRecord:
    job = finished.job
    request = job.request
    if request in (record.checkpoints if job.until_checkpoint else record.artefacts):
        return record
    if job.succeeded and (built := _parse_result(finished.pod, Built)):
        known = record.with_checkpoint if job.until_checkpoint else record.with_artefact
        return known(request, built)
    entry = make_build_entry(request, job.pods)
    record = _record_failure(record, entry, request, finished)
    return record.without_checkpoint(job.checkpoint) if _lacked_checkpoint(finished) else record


def _lacked_checkpoint(finished: _FinishedJob) -> bool:
    """Return whether a Job did not find what it was to compile."""
    job, pod = finished.job, finished.pod
    failure = _parse_failure(pod.termination.message) if pod and pod.termination else None
    return bool(job.checkpoint) and failure is not None and failure.code == CheckpointMissing.code


def is_outdated(job: ObservedJob, model: Model, snapshot: Snapshot) -> bool:
    """Return whether what a finished Job says of the store is so no longer."""
    return _is_about_older_volume(job, model, snapshot) or _is_about_lost_checkpoint(
        job, model, snapshot
    )


def _is_about_lost_checkpoint(job: ObservedJob, model: Model, snapshot: Snapshot) -> bool:
    """Return whether a Job made a checkpoint that a later Job did not find."""
    if not job.until_checkpoint or not job.finished:
        return False
    built = _parse_result(_find_pod(job, snapshot), Built)
    return built is not None and any(
        other.checkpoint == built.key
        and (other.created_at or 0) > (job.created_at or 0)
        and _lacked_checkpoint(_FinishedJob(other, _find_pod(other, snapshot), model, snapshot))
        for other in snapshot.jobs.values()
    )


def _is_about_older_volume(job: ObservedJob, model: Model, snapshot: Snapshot) -> bool:
    """Return whether a Job was made before the store's volume: what it says of one is not so.

    A claim is deleted only once no pod mounts it, and a Job is created after the claim.
    """
    claim = snapshot.claims.get(model.store_claim)
    if claim is None or claim.created_at is None or job.created_at is None:
        return False
    return job.created_at < claim.created_at


def find_unexplained_builds(
    snapshot: Snapshot,
) -> Iterator[tuple[ObservedJob, ObservedPod | None]]:
    """Yield builds that ended without a termination message and are not recorded, with the pod."""
    for job in snapshot.jobs.values():
        known = snapshot.record.artefacts.keys() | snapshot.record.checkpoints.keys()
        if snapshot.record.has_counted(job.uid) or job.request in known:
            continue
        if not job.finished or not job.request or job.deleting:
            continue
        pod = _find_pod(job, snapshot)
        ended = "" if pod is None or pod.termination is None else pod.termination.message
        if _parse_failure(ended) is None and _parse_result(pod, Built) is None:
            yield job, pod


def find_last_step(job: ObservedJob, snapshot: Snapshot) -> Step:
    """Return the step that a Job was in when it ended, as far as anybody knows.

    A build's log tells it. Where that is gone with its pod, and the operator was restarted since,
    the status of a model that waited for the build remembers it. A build that reported nothing was
    still in its first step, and resolving is the first half of that one.
    """
    if not job.request:
        return Step.FETCH
    reported = (m.status.build.step for m in snapshot.sharing if m.status.build.job == job.name)
    return snapshot.last_steps.get(job.uid) or next(filter(None, reported), Step.FETCH)


def _record_failure(
    record: StoreRecord, entry: str, asked: str, finished: _FinishedJob
) -> StoreRecord:
    job, snapshot = finished.job, finished.snapshot
    step = find_last_step(job, snapshot)
    failure = find_failure(job, finished.pod, now=snapshot.now, step=step)
    if failure is None or record.has_counted(job.uid):
        return record
    lost = None
    if failure.code == LOST_POD:
        before = record.failed.get(entry)
        same = before is not None and (before.asked, before.pods) == (asked, job.pods or None)
        lost = 1 + ((before.lost or 0) if before is not None and same else 0)
    failed = FailedAttempts(
        asked=asked,
        failure=failure,
        attempts=job.attempt if lost is None else job.attempt - 1,
        lost=lost,
        at=snapshot.now,
        job=job.uid,
        retries=tuple(sorted({m.retry for m in (finished.model, *snapshot.sharing) if m.retry})),
        pods=job.pods or None,
    )
    return record.with_failure(entry, failed)


def find_failure(
    job: ObservedJob, pod: ObservedPod | None, *, now: float, step: Step
) -> Failure | None:
    """Return why a finished Job has no result; None while its pod may still be seen to end.

    Args:
        job: the Job.
        pod: its pod, if it is still there.
        now: seconds since 1970.
        step: the step that it was in, for failures that the builder could not report itself.
    """
    termination = None if pod is None else pod.termination
    reported = None if termination is None else _parse_failure(termination.message)
    if reported is not None and not (pod is not None and pod.evicted and reported.retryable):
        return reported
    words = _BUILD_WORDS if job.request else _RESOLVE_WORDS
    if job.failure_reason == "DeadlineExceeded":
        return Failure(code=DEADLINE, step=step, message=words.deadline, retryable=True)
    if pod is None or termination is None:
        if job.finished_at is not None and now - job.finished_at < LOST_AFTER_S:
            return None
        message = "its pod is gone, and its termination message with it"
        return Failure(code=LOST_POD, step=step, message=message, retryable=True)
    return _explain_silent_end(pod, termination, words, step)


def _explain_silent_end(
    pod: ObservedPod, termination: Termination, words: _Words, step: Step
) -> Failure:
    """Return why a pod ended that did not report it itself."""
    if termination.reason == "OOMKilled":
        code = NotEnoughHostMemory.code
        return Failure(code=code, step=step, message=words.out_of_memory, retryable=False)
    if pod.evicted:
        message = "the cluster took its pod away: an eviction, a preemption or a lost node"
        return Failure(code=LOST_POD, step=step, message=message, retryable=True)
    last = termination.message.strip().splitlines()[-1:] or ["it left no message"]
    message = f"terminated with exit code {termination.exit_code} ({termination.reason}): {last[0]}"
    return Failure(code="internal", step=step, message=message, retryable=True)


@dataclass(frozen=True, slots=True)
class _Words:
    """What to do about a kind of Job that the cluster ended."""

    deadline: str
    out_of_memory: str


_BUILD_WORDS: Final = _Words(
    deadline="it took longer than its deadline: raise spec.build.activeDeadlineSeconds",
    out_of_memory="it was killed for using more memory than its limit: raise "
    "spec.build.resources.limits.memory",
)
_RESOLVE_WORDS: Final = _Words(
    deadline=f"it took longer than the {RESOLVE_LIMIT_S} s that every resolve Job has: check that "
    "the hub, or the source's volume, is not too slow",
    out_of_memory="it was killed for using more memory than its limit: raise "
    "spec.build.helperResources.limits.memory",
)


def find_next_attempt(
    failed: FailedAttempts | None, wanted: str, model: Model
) -> tuple[int, float] | None:
    """Return number and time of the next attempt; None where there is none.

    Args:
        failed: what was recorded; attempts at something else than `wanted` do not count.
        wanted: digest of what is to be done.
        model: who wants it.
    """
    if failed is None or failed.asked != wanted:
        return 1, 0.0
    if model.retry and model.retry not in failed.retries:
        return 1, 0.0
    if not failed.failure.retryable or failed.attempts > model.spec.build.backoff_limit:
        return None
    doublings = min(failed.attempts + (failed.lost or 0) - 1, _MOST_DOUBLINGS)
    pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**doublings)
    return failed.attempts + 1, failed.at + pause


def list_pods(job: ObservedJob, snapshot: Snapshot) -> Iterator[ObservedPod]:
    """Return all pods of a Job."""
    return (pod for pod in snapshot.pods if pod.job == job.uid)


def _find_pod(job: ObservedJob, snapshot: Snapshot) -> ObservedPod | None:
    pods = list(list_pods(job, snapshot))
    return next((pod for pod in pods if pod.termination is not None), pods[0] if pods else None)


def _parse_result(pod: ObservedPod | None, cls: type[C]) -> C | None:
    if pod is None or pod.termination is None:
        return None
    try:
        return cls.from_json(json.loads(pod.termination.message))
    except (ValueError, BuilderError):
        return None


def _parse_failure(message: str) -> Failure | None:
    try:
        return Failure.from_json(json.loads(message))
    except (ValueError, BuilderError):
        return None
