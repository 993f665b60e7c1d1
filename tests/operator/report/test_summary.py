"""The conditions that tools read: for every phase what kstatus, kpt and Flux make of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmjp_operator.api import Condition, Phase, Status, encode
from llmjp_operator.report.notices import find_notices
from llmjp_operator.report.status import build_hindered_status, build_invalid_status
from llmjp_operator.report.summary import SUMMARY, find_message
from tests.operator.factories import NOW, make_model, make_snapshot
from tests.operator.kstatus_tool import build_kstatus, compute_statuses
from tests.operator.report.test_status import NONE, look, status_of
from tests.operator.test_version_n import PHASES
from tests.operator.version_n import iterate_rested, reconcile_step

KSTATUS = {
    Phase.BLOCKED: "Failed",
    Phase.RESOLVING: "InProgress",
    Phase.BUILDING: "InProgress",
    Phase.ROLLING_OUT: "InProgress",
    Phase.SERVING: "Current",
    Phase.IDLE: "Current",
    Phase.FAILED: "Failed",
}
"""Degraded is Failed, or InProgress while lost pods come back."""


def list_statuses() -> list[Status]:
    """Return a status in every phase, as today's operator writes it."""
    from llmjp_operator.api import decode

    model = make_model()
    idle = make_model({"serving": {"replicas": 0}})
    rested = [reconcile_step(step)["status"] for step in iterate_rested()]
    return [
        *(decode(Status, status, "status", strict=False) for status in rested),
        status_of(idle, look(idle, {**NONE, "wanted": 0})),
        status_of(model, look(model, {"updated": 0, "stalled": "late"})),
        status_of(model, look(model, {"pods": "older"})),
        build_invalid_status(model, "spec.engine: no", NOW),
        build_hindered_status(model, status_of(model, look(model, {})), "quota", NOW),
    ]


STATUSES = list_statuses()


@pytest.fixture(scope="module")
def kstatus() -> Path:
    return build_kstatus()


def test_every_phase_is_there() -> None:
    assert {str(status.phase) for status in STATUSES} == {*PHASES, "Idle"}


def holds(status: Status, kind: str) -> bool:
    return next(c.status for c in status.conditions if c.type == kind) == "True"


@pytest.mark.parametrize("status", STATUSES, ids=lambda s: str(s.phase))
def test_one_of_three_holds(status: Status) -> None:
    assert [c.type for c in status.conditions][:3] == list(SUMMARY)
    assert sum(holds(status, kind) for kind in SUMMARY) == 1


@pytest.mark.parametrize("status", STATUSES, ids=lambda s: str(s.phase))
def test_nothing_is_said_twice(status: Status) -> None:
    said = [c.message for c in status.conditions if c.message]
    assert len(said) == len({*said}), said


@pytest.mark.parametrize("status", STATUSES, ids=lambda s: str(s.phase))
def test_a_condition_that_needs_words_has_some(status: Status) -> None:
    for condition in status.conditions:
        if condition.type not in SUMMARY or condition.reason == "InvalidSpec":
            assert find_message(condition, status), condition


def test_kstatus_tells_the_phases_apart(kstatus: Path) -> None:
    bodies = [
        {
            "apiVersion": "serving.llmjp.dev/v1alpha1",
            "kind": "LlmJpModel",
            "metadata": {"name": "a", "namespace": "ns", "generation": s.observed_generation},
            "status": encode(s),
        }
        for s in STATUSES
    ]
    for status, found in zip(STATUSES, compute_statuses(kstatus, bodies), strict=True):
        wanted = KSTATUS.get(status.phase or Phase.PENDING, found["status"])
        if status.phase is Phase.DEGRADED:
            wanted = "Failed" if holds(status, "Stalled") else "InProgress"
        if next(c.reason for c in status.conditions if c.type == "Ready") == "Hindered":
            wanted = "Failed"
        assert found["status"] == wanted, (status.phase, found)
        assert found["message"], status.phase


def test_a_model_that_the_operator_has_not_seen_is_in_progress(kstatus: Path) -> None:
    body = {"kind": "LlmJpModel", "metadata": {"generation": 2}, "status": encode(STATUSES[0])}
    assert [found["status"] for found in compute_statuses(kstatus, [body])] == ["InProgress"]


@pytest.mark.parametrize(
    ("replicas", "live", "shown"),
    [
        (1, {}, "1/1"),
        (2, {"wanted": 2}, "1/2"),
        (0, {**NONE, "wanted": 0}, "0/0"),
        (1, None, "0/1"),
    ],
)
def test_ready_is_shown_with_what_is_asked_for(
    replicas: int, live: dict[str, int] | None, shown: str
) -> None:
    model = make_model({"serving": {"replicas": replicas}})
    assert status_of(model, look(model, live)).ready == shown


def test_the_summary_is_no_event_of_its_own() -> None:
    """An upgrade from a version without these conditions posts nothing."""
    model = make_model()
    now = status_of(model, look(model, {}))
    before = replace(now, conditions=tuple(c for c in now.conditions if c.type not in SUMMARY))
    assert not find_notices(replace(model, status=before), now)


def test_a_failure_that_moved_to_another_condition_is_no_news() -> None:
    model = make_model({"engine": {"backend": "vllm"}})
    now = status_of(model, make_snapshot(model))
    before = replace(
        now, conditions=tuple(told(c, now) for c in now.conditions if c.type not in SUMMARY)
    )
    assert not find_notices(replace(model, status=before), now)
    [notice] = find_notices(model, now)[:1]
    assert notice.message == find_message(now.conditions[0], now)


def told(condition: Condition, status: Status) -> Condition:
    return replace(condition, message=find_message(condition, status))
