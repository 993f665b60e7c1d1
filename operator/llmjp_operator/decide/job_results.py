"""Results and failures of finished Jobs, for the record, and when to try again. Pure.

Kubernetes retries no Job of ours (backoffLimit 0), as it cannot tell a failure that may pass from
one that will not; the builder can, and says so in its termination message.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from llmjp_builder.contracts.errors import BuilderError
from llmjp_builder.contracts.spec import Built, Failure, Resolution, Step
from llmjp_operator.names import resolve_job
from llmjp_operator.observe.store_record import FailedAttempts, PinnedSource, source_entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmjp_operator.api import Model
    from llmjp_operator.observe.snapshot import ObservedJob, ObservedPod, Snapshot, Termination
    from llmjp_operator.observe.store_record import StoreRecord

C = TypeVar("C", Built, Resolution)

FIRST_PAUSE_S: Final = 10.0
"""Before the first retry; it doubles each time."""
LONGEST_PAUSE_S: Final = 600.0
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
    record = snapshot.record
    reference = model.spec.source.reference_digest
    for job in snapshot.jobs.values():
        if not job.finished or job.deleting:
            continue
        finished = _FinishedJob(job, _find_pod(job, snapshot), model, snapshot)
        if job.name == resolve_job(model.name, reference):
            record = _record_resolution(record, finished, reference)
        elif job.request:
            record = _record_artefact(record, finished)
    return record


def _record_resolution(record: StoreRecord, finished: _FinishedJob, asked: str) -> StoreRecord:
    model = finished.model
    known = record.sources.get(model.name)
    if known is not None and known.asked == asked and known.uid == model.uid:
        return record
    if finished.job.succeeded and (resolution := _parse_result(finished.pod, Resolution)):
        pinned = PinnedSource(asked=asked, uid=model.uid, found=resolution)
        return record.with_source(model.name, pinned)
    return _record_failure(record, source_entry(model.name), asked, finished)


def _record_artefact(record: StoreRecord, finished: _FinishedJob) -> StoreRecord:
    request = finished.job.request
    if request in record.artefacts:
        return record
    if finished.job.succeeded and (built := _parse_result(finished.pod, Built)):
        return record.with_artefact(request, built)
    return _record_failure(record, request, request, finished)


def _record_failure(
    record: StoreRecord, entry: str, asked: str, finished: _FinishedJob
) -> StoreRecord:
    before = record.failed.get(entry)
    failure = find_failure(finished.job, finished.pod, finished.snapshot.now)
    if failure is None or (before is not None and before.job == finished.job.uid):
        return record
    failed = FailedAttempts(
        asked=asked,
        failure=failure,
        attempts=finished.job.attempt,
        at=finished.snapshot.now,
        job=finished.job.uid,
        retries=tuple(
            sorted({m.retry for m in (finished.model, *finished.snapshot.sharing) if m.retry})
        ),
    )
    return record.with_failure(entry, failed)


def find_failure(job: ObservedJob, pod: ObservedPod | None, now: float) -> Failure | None:
    """Return why a finished Job has no result; None while its pod may still be seen to end."""
    termination = None if pod is None else pod.termination
    if termination is not None:
        failure = _parse_failure(termination.message)
        if failure is not None:
            return failure
    if job.failure_reason == "DeadlineExceeded":
        return _make_failure(DEADLINE, "it took longer than activeDeadlineSeconds", retryable=True)
    if pod is None or termination is None:
        if job.finished_at is not None and now - job.finished_at < LOST_AFTER_S:
            return None
        return _make_failure(LOST_POD, "its pod is gone, and with it what it said", retryable=True)
    return _explain_silent_end(pod, termination)


def _explain_silent_end(pod: ObservedPod, termination: Termination) -> Failure:
    """Return why a pod ended that left no failure in its termination message."""
    if termination.reason == "OOMKilled":
        message = "it was killed for using more memory than its limit: raise spec.build.resources"
        return _make_failure("not_enough_host_memory", message, retryable=False)
    if pod.evicted:
        return _make_failure(LOST_POD, "the cluster took its pod away", retryable=True)
    last = termination.message.strip().splitlines()[-1:] or ["it said nothing"]
    message = f"ended with exit code {termination.exit_code} ({termination.reason}): {last[0]}"
    return _make_failure("internal", message, retryable=True)


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
    pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (failed.attempts - 1))
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


def _make_failure(code: str, message: str, *, retryable: bool) -> Failure:
    return Failure(code=code, step=Step.FETCH, message=message, retryable=retryable)
