"""A plan explains itself: what is written, why, and nothing where all is as it should be."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llmjp_operator import plan as plan_page
from llmjp_operator.api import Model
from llmjp_operator.plan import ReconcilePlan, plan_reconcile
from tests.operator.factories import NOW, SETTINGS, make_job, make_model, make_snapshot
from tests.operator.simulation import Simulation


def plan_for(model: Model, **values: Any) -> ReconcilePlan:
    return plan_reconcile(model, make_snapshot(model, **values), SETTINGS)


def test_what_is_missing_is_explained() -> None:
    plan = plan_for(make_model())
    assert plan.details[:2] == (
        "apply ServiceAccount/a: missing",
        "apply NetworkPolicy/a.build: missing",
    )
    assert [line for line in plan.details if line.startswith("apply Job/a-resolve-")]


def test_a_job_that_nobody_waits_for_is_explained() -> None:
    model = make_model()
    stale = make_job("ljm-build-before", model, request="r")
    plan = plan_for(model, jobs={stale.name: stale})
    assert "remove Job/ljm-build-before: no model waits for it" in plan.details


def test_a_failed_job_makes_room_for_the_next_attempt() -> None:
    model = make_model()
    name = next(obj["metadata"]["name"] for obj in plan_for(model).apply if obj["kind"] == "Job")
    failed = make_job(name, model, failed=True, finished_at=NOW - 60)
    first = plan_for(model, jobs={name: failed})
    assert first.record is not None, "the failure is counted"
    plan = plan_for(model, now=NOW + 60, record=first.record, jobs={name: failed})
    assert f"remove Job/{name}: the next attempt takes its name" in plan.details


def test_a_quiet_reconcile_writes_nothing_and_renders_no_pods(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulation = Simulation()
    simulation.settle()
    controller = simulation.operator.controller
    model = controller.cache.models["ns", "a"]
    assert isinstance(model, Model)
    snapshot = asyncio.run(controller.snapshots.take(model))
    monkeypatch.setattr(plan_page, "make_revision", None)
    plan = plan_reconcile(model, snapshot, SETTINGS)
    assert plan.details == ()
    assert (plan.record, plan.apply, plan.remove_first, plan.remove) == (None, (), (), ())
    assert plan.status == model.status
