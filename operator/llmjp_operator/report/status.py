"""Status of a model: phase, conditions, figures. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llmjp_builder.contracts.defaults import GRPC_PORT, HTTP_PORT
from llmjp_operator.api import Condition, Phase, Status
from llmjp_operator.api.status import BuildStatus, Endpoint, EngineStatus, SourceStatus
from llmjp_operator.decisions import JobStage
from llmjp_operator.names import COMPONENT, MODEL_LABEL
from llmjp_operator.report.conditions import find_cause, judge_conditions
from llmjp_operator.report.summary import Verdict, find_message, say_once, summarize

if TYPE_CHECKING:
    from llmjp_builder.contracts.spec import Step
    from llmjp_operator.api import Model
    from llmjp_operator.decisions import Decision, JobDecision
    from llmjp_operator.observe.snapshot import ObservedDeployment, Snapshot

MODEL_NAME = "llmjp"
"""Name of the Triton model."""


def build_status(model: Model, snapshot: Snapshot, decision: Decision) -> Status:
    """Return the whole status."""
    live = snapshot.deployment
    phase = choose_phase(model, decision, live)
    judged = judge_conditions(model, snapshot, decision)
    progressing = next(verdict for verdict in judged if verdict.type == "Progressing")
    cause = find_cause(model, snapshot, decision)
    verdicts = say_once((*summarize(phase, progressing, cause), *judged))
    return Status(
        observed_generation=model.generation,
        phase=phase,
        conditions=tuple(_build_condition(verdict, model, snapshot.now) for verdict in verdicts),
        source=_build_source_status(model, decision),
        engine=_build_engine_status(model, decision),
        build=_build_build_status(model, snapshot, decision),
        replicas=0 if live is None else live.replicas,
        ready_replicas=0 if live is None else live.ready,
        ready=f"{0 if live is None else live.ready}/{model.spec.serving.replicas}",
        selector=f"{MODEL_LABEL}={model.name},{COMPONENT}=serving",
        endpoint=build_endpoint(model) if decision.rollout or decision.left_alone else None,
    )


def build_invalid_status(model: Model, message: str, now: float) -> Status:
    """Return the status of a model whose spec is invalid; it keeps what is not judged by that."""
    phase = Phase.DEGRADED if model.status.ready_replicas else Phase.BLOCKED
    verdict = Verdict("Accepted", holds=False, reason="InvalidSpec", message=message)
    return replace(
        model.status,
        observed_generation=model.generation,
        phase=phase,
        conditions=_replace_conditions(
            model, model.status, (*summarize(phase, verdict), verdict), now
        ),
    )


def build_hindered_status(model: Model, status: Status, message: str, now: float) -> Status:
    """Return a status whose objects the API server refuses: a quota, an admission webhook."""
    verdict = Verdict("Progressing", holds=False, reason="Hindered", message=message)
    verdicts = (*summarize(Phase.BLOCKED, verdict), verdict)
    return replace(status, conditions=_replace_conditions(model, status, verdicts, now))


def build_endpoint(model: Model) -> Endpoint:
    """Return the addresses for clients inside the cluster."""
    host = f"{model.name}.{model.namespace}.svc"
    http = "" if model.spec.serving.tls.secret_name else f"{host}:{HTTP_PORT}"
    return Endpoint(grpc=f"{host}:{GRPC_PORT}", http=http, model=MODEL_NAME)


def choose_phase(model: Model, decision: Decision, live: ObservedDeployment | None) -> Phase:
    """Return the state of a model in one word."""
    answers = live is not None and live.ready > 0
    trouble = Phase.DEGRADED if answers else Phase.FAILED
    if decision.problem is not None:
        return Phase.DEGRADED if answers else Phase.BLOCKED
    for job, busy in ((decision.resolving, Phase.RESOLVING), (decision.building, Phase.BUILDING)):
        if job is not None:
            return trouble if job.stage is JobStage.FAILED else busy
    if decision.incompatible is not None or _is_rolled_back(decision):
        return trouble
    return _choose_rollout_phase(model, decision, live, trouble)


def _is_rolled_back(decision: Decision) -> bool:
    """Return whether something else runs than the artefact that is there; see `decide_rollout`."""
    return decision.rollout is None or decision.rollout.rolled_back


def _choose_rollout_phase(
    model: Model, decision: Decision, live: ObservedDeployment | None, trouble: Phase
) -> Phase:
    if live is None or not live.observed or live.pods != decision.pod_digest:
        return Phase.ROLLING_OUT
    if live.stalled:
        return trouble
    if live.complete:
        return Phase.SERVING if live.wanted else Phase.IDLE
    # Pods of the right kind are missing: some ended, or more were requested.
    unchanged = live.updated == live.replicas and model.status.engine.active == live.key
    return Phase.DEGRADED if live.ready and unchanged else Phase.ROLLING_OUT


def _replace_conditions(
    model: Model, status: Status, verdicts: tuple[Verdict, ...], now: float
) -> tuple[Condition, ...]:
    """Return a status' conditions with other verdicts; the rest keeps what it says."""
    changed = {v.type: _build_condition(v, model, now) for v in verdicts}
    others = {
        c.type: replace(c, message=find_message(c, status))
        for c in status.conditions
        if c.type not in changed
    }
    found = changed | others
    order = [*(v.type for v in verdicts if v.type != "Progressing"), *others]
    return say_once(found[type_] for type_ in dict.fromkeys((*order, *found)))


def _build_condition(verdict: Verdict, model: Model, now: float) -> Condition:
    value = {True: "True", False: "False", None: "Unknown"}[verdict.holds]
    before = next((c for c in model.status.conditions if c.type == verdict.type), None)
    since = before.last_transition_time if before and before.status == value else _format_time(now)
    return Condition(
        type=verdict.type,
        status=value,  # type: ignore[arg-type]
        observed_generation=model.generation,
        last_transition_time=since,
        reason=verdict.reason,
        message=verdict.message,
    )


def _build_source_status(model: Model, decision: Decision) -> SourceStatus:
    if decision.resolution is None:
        return model.status.source if decision.problem is not None else SourceStatus()
    return SourceStatus(revision=decision.resolution.revision, digest=decision.resolution.digest)


def _build_engine_status(model: Model, decision: Decision) -> EngineStatus:
    before, built, active = model.status.engine, decision.artefact, decision.active_key
    previous = before.previous
    if active is not None and before.active is not None and before.active != active:
        previous = before.active
    kept = {entry.key for entry in decision.record.history.get(model.name, ())}
    return EngineStatus(
        key=None if built is None else built.key,
        active=active,
        previous=previous if previous in kept and previous != active else None,
        cache_hit=decision.cache_hit,
        compute_capability=None if built is None else built.compute_capability,
        trtllm_version=None if built is None else built.tensorrt_llm,
    )


def _build_build_status(model: Model, snapshot: Snapshot, decision: Decision) -> BuildStatus:
    job = decision.resolving or decision.building
    if job is None:
        return BuildStatus()
    progress = snapshot.progress if job.stage is JobStage.RUNNING else None
    failure = None if job.failed is None else job.failed.failure
    eta = None if progress is None or progress.eta_seconds is None else round(progress.eta_seconds)
    return BuildStatus(
        job=job.job,
        step=_last_step(model, job) if progress is None else progress.step,
        percent=None if progress is None else min(100, max(0, int(progress.percent))),
        eta_seconds=None if eta is None else min(max(0, eta), 31_536_000),
        failure=failure,
    )


def _last_step(model: Model, job: JobDecision) -> Step | None:
    """Return the step that the Job reported last; a failure needs it when pod and log are gone."""
    before = model.status.build
    same = before.job == job.job and job.stage in {JobStage.RUNNING, JobStage.ENDING}
    return before.step if same else None


def _format_time(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
