"""Phase, conditions and numbers for what the cluster shows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llmjp_builder.contracts.spec import Progress, Step
from llmjp_operator.api import Condition, Model, Phase, Status, encode
from llmjp_operator.api.status import EngineStatus
from llmjp_operator.decide.build_request import make_request
from llmjp_operator.decide.rollout import to_served_artefact
from llmjp_operator.observe.snapshot import Snapshot
from llmjp_operator.observe.store_record import PinnedSource, StoreRecord
from llmjp_operator.plan import plan_reconcile
from llmjp_operator.render.metadata import get_pod_digest
from llmjp_operator.report.status import build_endpoint, build_hindered_status, build_invalid_status
from llmjp_operator.report.summary import find_message
from tests.operator.factories import (
    FOUND,
    NOW,
    SETTINGS,
    make_artefact,
    make_deployment,
    make_job,
    make_model,
    make_serving_pod,
    make_snapshot,
    make_termination,
)

KEY = "k" * 20


def known(model: Model) -> StoreRecord:
    """The model's source is pinned and its artefact built."""
    request = make_request(model, FOUND, None)
    return StoreRecord(
        sources={
            model.name: PinnedSource(
                asked=model.spec.source.reference_digest, uid=model.uid, found=FOUND
            )
        },
        artefacts={request.digest: make_artefact(KEY)},
        history={model.name: (to_served_artefact(model, KEY),)},
    )


def pods_of(model: Model) -> str:
    plan = plan_reconcile(model, make_snapshot(model, record=known(model)), SETTINGS)
    return next(get_pod_digest(obj) for obj in plan.apply if obj["kind"] == "Deployment")


def look(model: Model, live: Any = None, **values: Any) -> Snapshot:
    """Return a snapshot in which the model is built."""
    deployment = None if live is None else make_deployment(**{"pods": pods_of(model), **live})
    return make_snapshot(model, **{"record": known(model), "deployment": deployment, **values})


def status_of(model: Model, seen: Snapshot) -> Status:
    return plan_reconcile(model, seen, SETTINGS).status


def condition(found: Status, kind: str) -> Condition:
    """Return a condition, with the message that another with the same reason may tell."""
    one = next(c for c in found.conditions if c.type == kind)
    return replace(one, message=find_message(one, found))


NONE = {"replicas": 0, "updated": 0, "ready": 0, "available": 0}


@pytest.mark.parametrize(
    ("live", "phase", "reason"),
    [
        (None, Phase.ROLLING_OUT, "RollingOut"),
        ({}, Phase.SERVING, "Complete"),
        ({"pods": "older"}, Phase.ROLLING_OUT, "RollingOut"),
        ({"observed": False}, Phase.ROLLING_OUT, "RollingOut"),
        ({"wanted": 2}, Phase.ROLLING_OUT, "RollingOut"),
        ({"updated": 0, "stalled": "late"}, Phase.DEGRADED, "RolloutStalled"),
        ({**NONE, "stalled": "late"}, Phase.FAILED, "RolloutStalled"),
        ({**NONE, "wanted": 0}, Phase.IDLE, "Complete"),
    ],
    ids=[
        *("first", "done", "other pods", "unseen", "more wanted"),
        *("stalled beside old", "stalled", "to zero"),
    ],
)
def test_the_phase_follows_the_rollout(live: Any, phase: Phase, reason: str) -> None:
    model = make_model()
    found = status_of(model, look(model, live))
    assert (found.phase, condition(found, "Progressing").reason) == (phase, reason)


def test_a_pod_that_is_lost_degrades() -> None:
    model = make_model({"serving": {"replicas": 2}})
    model = replace(model, status=Status(engine=EngineStatus(active=KEY)))
    live = {"wanted": 2, "replicas": 2, "updated": 2, "ready": 1, "available": 1}
    assert status_of(model, look(model, live)).phase is Phase.DEGRADED


@pytest.mark.parametrize(
    ("changes", "live", "holds", "reason"),
    [
        ({}, None, "False", "NoEngine"),
        ({}, {}, "True", "PodsReady"),
        ({}, {"ready": 0}, "False", "NoPodReady"),
        ({"serving": {"replicas": 0}}, {"ready": 0, "wanted": 0}, "False", "ScaledToZero"),
    ],
)
def test_available_tells_whether_pods_answer(
    changes: Any, live: Any, holds: str, reason: str
) -> None:
    model = make_model(changes)
    found = condition(status_of(model, look(model, live)), "Available")
    assert (found.status, found.reason) == (holds, reason)


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (
            make_serving_pod(KEY, ready=False, waiting="ErrImagePull: 404"),
            "cannot start: ErrImagePull",
        ),
        (
            make_serving_pod(
                KEY,
                ready=False,
                restarts=1,
                termination=make_termination('{"message": "no GPU"}', 4),
            ),
            "terminated with exit code 4: no GPU",
        ),
        (
            make_serving_pod(
                KEY, ready=False, restarts=1, termination=make_termination("a\n b", 1)
            ),
            "terminated with exit code 1: a b",
        ),
        (
            make_serving_pod(KEY, ready=False, restarts=1, termination=make_termination("", 137)),
            "terminated with exit code 137: it left no message",
        ),
        (make_serving_pod(KEY, ready=False, deleting=True, waiting="x"), "pods are starting"),
    ],
    ids=["image", "json", "text", "silent", "going"],
)
def test_available_tells_why_no_pod_is_ready(pod: Any, words: str) -> None:
    model = make_model()
    found = status_of(model, look(model, {"ready": 0}, pods=(pod,)))
    assert words in condition(found, "Available").message


def test_downtime_is_announced() -> None:
    model = make_model({"serving": {"maxSurge": 0}})
    found = condition(status_of(model, look(model, {"pods": "older"})), "Progressing")
    assert found.reason == "Downtime"


def test_a_spec_that_cannot_be_carried_out() -> None:
    model = make_model({"engine": {"backend": "vllm"}})
    found = status_of(model, make_snapshot(model))
    assert found.phase is Phase.BLOCKED
    assert condition(found, "Accepted").reason == "BackendNotServed"
    assert condition(found, "EngineReady").status == "Unknown"


def test_a_running_build_is_measured() -> None:
    model = make_model()
    record = replace(known(model), artefacts={}, history={})
    waiting = status_of(model, make_snapshot(model, record=record))
    assert (waiting.phase, waiting.build.percent) == (Phase.BUILDING, None)
    assert waiting.build.job is not None
    job = make_job(waiting.build.job, model, request=make_request(model, FOUND, None).digest)
    progress = Progress(step=Step.CONVERT, percent=41.9, eta_seconds=-3.0)
    seen = make_snapshot(model, record=record, jobs={job.name: job}, progress=progress)
    build = status_of(model, seen).build
    assert (build.step, build.percent, build.eta_seconds) == (Step.CONVERT, 41, 0)


def test_a_condition_keeps_the_time_of_its_change() -> None:
    model = make_model()
    first = status_of(model, look(model, {}))
    model = replace(model, status=first, generation=2)
    later = replace(look(model, {}), now=NOW + 60)
    for before, after in zip(first.conditions, status_of(model, later).conditions, strict=True):
        assert after.last_transition_time == before.last_transition_time
        assert (before.observed_generation, after.observed_generation) == (1, 2)
    broken = replace(look(model, {"ready": 0}), now=NOW + 60)
    changed = condition(status_of(model, broken), "Available")
    assert changed.last_transition_time > condition(first, "Available").last_transition_time


def test_the_previous_engine_is_named_while_it_is_kept() -> None:
    model = make_model()
    record = known(model)
    history = (to_served_artefact(model, "o" * 20), to_served_artefact(model, KEY))
    record = replace(record, history={"a": history})
    pods = (make_serving_pod(KEY),)
    model = replace(model, status=Status(engine=EngineStatus(active="o" * 20)))
    found = status_of(model, look(model, {}, record=record, pods=pods)).engine
    assert (found.active, found.previous) == (KEY, "o" * 20)
    forgotten = replace(record, history={"a": history[1:]})
    found = status_of(model, look(model, {}, record=forgotten, pods=pods)).engine
    assert found.previous is None


def test_the_endpoint_has_no_http_with_tls() -> None:
    assert build_endpoint(make_model()).http == "a.ns.svc:8000"
    locked = build_endpoint(make_model({"serving": {"tls": {"secretName": "t"}}}))
    assert (locked.grpc, locked.http) == ("a.ns.svc:8001", "")


def test_a_refused_spec_keeps_what_was_said() -> None:
    model = make_model()
    model = replace(model, status=status_of(model, look(model, {})))
    found = build_invalid_status(model, "spec.engine: no", NOW)
    assert found.phase is Phase.DEGRADED, "pods answer"
    assert [c.type for c in found.conditions] == [c.type for c in model.status.conditions]
    assert condition(found, "Accepted").reason == "InvalidSpec"
    assert build_invalid_status(make_model(), "no", NOW).phase is Phase.BLOCKED
    again = build_invalid_status(replace(model, status=found), "spec.engine: no", NOW + 60)
    assert encode(again) == encode(found), "the same is not written again"


def test_what_the_api_server_refuses_is_said() -> None:
    model = make_model()
    found = build_hindered_status(model, status_of(model, look(model, {})), "quota", NOW)
    told = condition(found, "Progressing")
    assert (told.status, told.reason, told.message) == ("False", "Hindered", "quota")
