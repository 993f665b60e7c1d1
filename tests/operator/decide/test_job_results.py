"""Results and failures of Jobs, and when something is tried again."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from llmjp_builder.contracts.spec import Step, to_canonical_json
from llmjp_operator.api import Status
from llmjp_operator.api.status import BuildStatus
from llmjp_operator.decide.job_results import (
    LOST_AFTER_S,
    absorb_job_results,
    find_failure,
    find_next_attempt,
    find_unexplained_builds,
)
from llmjp_operator.names import make_resolve_job_name
from llmjp_operator.observe.store_record import (
    MAX_FAILURES,
    StoreRecord,
    make_build_entry,
    make_source_entry,
)
from tests.operator.factories import (
    FOUND,
    NOW,
    make_artefact,
    make_failed_attempts,
    make_failure,
    make_job,
    make_model,
    make_pod,
    make_snapshot,
    make_termination,
)

MODEL = make_model()
ASKED = MODEL.spec.source.reference_digest
FAILURE = to_canonical_json(make_failure().to_json())


@pytest.mark.parametrize(
    ("job", "pod", "code", "retryable"),
    [
        ({}, {"termination": make_termination(FAILURE, 3)}, "hub_failed", True),
        (
            {},
            {
                "termination": make_termination(
                    to_canonical_json(make_failure("bad_config", retryable=False).to_json()), 3
                )
            },
            "bad_config",
            False,
        ),
        (
            {},
            {"termination": make_termination("", 137, "OOMKilled")},
            "not_enough_host_memory",
            False,
        ),
        ({}, {"termination": make_termination("Killed", 137), "evicted": True}, "pod_lost", True),
        ({}, {"termination": make_termination("a\nTraceback: b", 1)}, "internal", True),
        ({"failure_reason": "DeadlineExceeded"}, {}, "deadline_exceeded", True),
        (
            {"failure_reason": "DeadlineExceeded"},
            {"termination": make_termination("", 143)},
            "deadline_exceeded",
            True,
        ),
        (
            {"failure_reason": "DeadlineExceeded"},
            {"termination": make_termination(FAILURE, 143)},
            "hub_failed",
            True,
        ),
        ({"finished_at": NOW - LOST_AFTER_S - 1}, None, "pod_lost", True),
    ],
)
def test_the_reason_why_a_job_failed(
    job: dict[str, Any], pod: dict[str, Any] | None, code: str, retryable: bool
) -> None:
    ended = make_job("j", MODEL, failed=True, **job)
    found = find_failure(
        ended, None if pod is None else make_pod(**pod), now=NOW, step=Step.COMPILE
    )
    assert found is not None
    reported = code in {"hub_failed", "bad_config"}
    step = Step.FETCH if reported else Step.COMPILE
    assert (found.code, found.retryable, found.step) == (code, retryable, step)


def test_a_pod_that_was_not_seen_yet_is_waited_for() -> None:
    job = make_job("j", MODEL, failed=True, finished_at=NOW - 1)
    for pod in (None, make_pod()):
        assert find_failure(job, pod, now=NOW, step=Step.FETCH) is None


def test_the_last_line_of_a_pod_that_says_nothing_in_our_form_is_told() -> None:
    job, pod = (
        make_job("j", MODEL, failed=True),
        make_pod(termination=make_termination("one\ntwo\n", 1)),
    )
    found = find_failure(job, pod, now=NOW, step=Step.FETCH)
    assert found is not None
    assert found.message.endswith("two")


WAYS_TO_END: dict[str, tuple[dict[str, Any], Any]] = {
    "deadline": ({"failure_reason": "DeadlineExceeded"}, None),
    "memory": ({}, make_pod(termination=make_termination("", 137, "OOMKilled"))),
    "evicted": ({}, make_pod(termination=make_termination("", 137), evicted=True)),
    "lost": ({}, None),
    "crashed": ({}, make_pod(termination=make_termination("", 139))),
}


@pytest.mark.parametrize("way", WAYS_TO_END)
@pytest.mark.parametrize("request_", ["", "r"], ids=["resolve", "build"])
def test_advice_names_fields_that_exist_and_matter(way: str, request_: str) -> None:
    job, pod = WAYS_TO_END[way]
    ended = make_job("j", MODEL, failed=True, request=request_, **job)
    found = find_failure(ended, pod, now=NOW, step=Step.FETCH)
    assert found is not None
    fields = re.findall(r"\bspec(?:\.\w+)+", found.message)
    for path in fields:
        assert path.removeprefix("spec.") in KNOWN_FIELDS
    # No field changes the deadline of a resolve Job.
    assert bool(fields) == (way == "memory" or (bool(request_) and way == "deadline"))


KNOWN_FIELDS = {
    "build.activeDeadlineSeconds",
    "build.resources.limits.memory",
    "build.helperResources.limits.memory",
}
"""Fields that change Jobs, as `test_every_field` shows."""


def ended_build(**values: Any) -> Any:
    return make_job(
        "b", MODEL, **{"request": "r", "failed": True, "finished_at": NOW - 99, **values}
    )


def test_the_step_is_what_the_log_of_the_build_ended_with() -> None:
    job = ended_build()
    seen = make_snapshot(MODEL, jobs={"b": job}, last_steps={job.uid: Step.COMPILE})
    assert absorb_job_results(MODEL, seen).failed["r"].failure.step is Step.COMPILE


def test_without_its_log_the_step_is_what_a_status_remembers() -> None:
    """Of any model that waits for the build; the operator may have been restarted since."""
    status = Status(build=BuildStatus(job="b", step=Step.CONVERT))
    waits, other = make_model(name="b", status=status), make_model(name="c")
    seen = make_snapshot(MODEL, jobs={"b": ended_build()}, sharing=(MODEL, other, waits))
    assert absorb_job_results(MODEL, seen).failed["r"].failure.step is Step.CONVERT
    of_another_job = make_model(status=Status(build=BuildStatus(job="x", step=Step.CONVERT)))
    seen = make_snapshot(MODEL, jobs={"b": ended_build()}, sharing=(of_another_job,))
    assert absorb_job_results(MODEL, seen).failed["r"].failure.step is Step.FETCH


def test_logs_are_needed_of_builds_that_ended_without_a_word() -> None:
    def needed(pod: Any, record: StoreRecord | None = None, **values: Any) -> bool:
        job = ended_build(**values)
        pods = () if pod is None else (replace(pod, job=job.uid),)
        known = StoreRecord() if record is None else record
        seen = make_snapshot(MODEL, record=known, jobs={"b": job}, pods=pods)
        return bool(list(find_unexplained_builds(seen)))

    killed = make_pod(termination=make_termination("", 137, "OOMKilled"))
    built = make_pod(termination=make_termination(to_canonical_json(make_artefact().to_json())))
    assert needed(killed)
    assert needed(None)
    assert not needed(make_pod(termination=make_termination(FAILURE, 3))), "it said so itself"
    assert not needed(built, failed=False, succeeded=True)
    assert not needed(killed, failed=False), "it runs"
    assert not needed(killed, StoreRecord(artefacts={"r": make_artefact()}))
    assert not needed(killed, StoreRecord(failed={"r": make_failed_attempts("r", job="job-b")})), (
        "it is recorded"
    )
    assert not needed(killed, request=""), "a resolve Job has one step"


def resolved(**values: Any) -> tuple[Any, Any]:
    job = make_job(
        make_resolve_job_name("a", ASKED), MODEL, component="resolve", succeeded=True, **values
    )
    return job, make_pod(
        job=job.uid, termination=make_termination(to_canonical_json(FOUND.to_json()))
    )


def test_a_pinned_source_is_recorded_with_its_model() -> None:
    job, pod = resolved()
    record = absorb_job_results(MODEL, make_snapshot(MODEL, jobs={job.name: job}, pods=(pod,)))
    pinned = record.sources["a"]
    assert (pinned.found, pinned.asked, pinned.uid) == (FOUND, ASKED, MODEL.uid)


def test_another_model_of_the_same_name_pins_anew() -> None:
    job, pod = resolved()
    before = absorb_job_results(MODEL, make_snapshot(MODEL, jobs={job.name: job}, pods=(pod,)))
    later = make_model(uid="another")
    job = make_job(job.name, later, succeeded=True, uid="job-2")
    pod = make_pod(job="job-2", termination=pod.termination)
    now = make_snapshot(later, record=before, jobs={job.name: job}, pods=(pod,))
    assert absorb_job_results(later, now).sources["a"].uid == "another"


def test_a_failure_is_counted_once() -> None:
    job = make_job("b", MODEL, request="r", failed=True, attempt=2)
    pod = make_pod(job=job.uid, termination=make_termination(FAILURE, 3))
    first = absorb_job_results(MODEL, make_snapshot(MODEL, jobs={"b": job}, pods=(pod,)))
    again = absorb_job_results(
        MODEL, make_snapshot(MODEL, now=NOW + 99, record=first, jobs={"b": job}, pods=(pod,))
    )
    assert again == first
    assert first.failed["r"].attempts == 2


def test_the_pod_of_an_earlier_job_of_the_name_does_not_count() -> None:
    job = make_job("b", MODEL, request="r", succeeded=True, finished_at=NOW)
    old = make_pod(job="job-before", termination=make_termination(FAILURE, 3))
    assert (
        absorb_job_results(MODEL, make_snapshot(MODEL, jobs={"b": job}, pods=(old,)))
        == StoreRecord()
    )


def test_a_built_artefact_ends_its_failures() -> None:
    job = make_job("b", MODEL, request="r", succeeded=True)
    pod = make_pod(job=job.uid, termination=make_termination(json.dumps(make_artefact().to_json())))
    before = StoreRecord(
        failed={"r": make_failed_attempts("r"), make_source_entry("a"): make_failed_attempts(ASKED)}
    )
    record = absorb_job_results(
        MODEL, make_snapshot(MODEL, record=before, jobs={"b": job}, pods=(pod,))
    )
    assert record.artefacts == {"r": make_artefact()}
    assert list(record.failed) == [make_source_entry("a")]


def test_a_success_without_its_message_is_a_failure_that_may_pass() -> None:
    job = make_job("b", MODEL, request="r", succeeded=True, finished_at=NOW - 60)
    record = absorb_job_results(MODEL, make_snapshot(MODEL, jobs={"b": job}))
    assert record.failed["r"].failure.code == "pod_lost"


def test_the_first_try_is_due_at_once() -> None:
    assert find_next_attempt(None, "r", MODEL) == (1, 0.0)
    assert find_next_attempt(make_failed_attempts("something else"), "r", MODEL) == (1, 0.0)


@pytest.mark.parametrize(("attempts", "pause"), [(1, 10), (2, 20), (3, 40)])
def test_pauses_between_attempts_double(attempts: int, pause: float) -> None:
    assert find_next_attempt(make_failed_attempts("r", attempts=attempts), "r", MODEL) == (
        attempts + 1,
        NOW + pause,
    )


def test_pauses_are_at_most_ten_minutes() -> None:
    patient = make_model({"build": {"backoffLimit": 20}})
    assert find_next_attempt(make_failed_attempts("r", attempts=15), "r", patient) == (
        16,
        NOW + 600,
    )


def test_nothing_is_tried_more_often_than_the_spec_allows() -> None:
    assert find_next_attempt(make_failed_attempts("r", attempts=4), "r", MODEL) is None


def test_what_cannot_pass_is_not_tried_again() -> None:
    hopeless = make_failed_attempts("r", failure=make_failure("bad_config", retryable=False))
    assert find_next_attempt(hopeless, "r", MODEL) is None


def test_an_annotation_tries_again_once() -> None:
    hopeless = make_failed_attempts("r", failure=make_failure("gated_repository", retryable=False))
    asking = make_model(retry="2")
    assert find_next_attempt(hopeless, "r", asking) == (1, 0.0)
    job = make_job("b", asking, request="r", failed=True)
    pod = make_pod(
        job=job.uid, termination=make_termination(to_canonical_json(hopeless.failure.to_json()), 5)
    )
    now = make_snapshot(
        asking, record=StoreRecord(failed={"r": hopeless}), jobs={"b": job}, pods=(pod,)
    )
    assert find_next_attempt(absorb_job_results(asking, now).failed["r"], "r", asking) is None


def test_models_that_share_a_build_do_not_make_each_other_try_again() -> None:
    one, other = make_model(retry="1"), make_model(name="b")
    hopeless = make_failed_attempts(
        "r", failure=make_failure("bad_config", retryable=False), retries=("1",)
    )
    assert find_next_attempt(hopeless, "r", one) is None
    assert find_next_attempt(hopeless, "r", other) is None


def test_failures_of_a_request_by_ever_other_pods_are_forgotten_in_the_end() -> None:
    record = StoreRecord(failed={"r": make_failed_attempts("r"), "s.p": make_failed_attempts("s")})
    for number in range(20):
        pods = f"p{number}"
        failed = make_failed_attempts("r", at=NOW + number, pods=pods, job=f"job-{number}")
        record = record.with_failure(make_build_entry("r", pods), failed)
    kept = [f"r.p{number}" for number in range(20 - MAX_FAILURES, 20)]
    assert sorted(record.failed) == sorted(["s.p", *kept])
    assert record.find_failure("r", "p0") is None
    assert record.find_failure("r", "p19") is not None
    assert list(record.with_artefact("r", make_artefact()).failed) == ["s.p"]
