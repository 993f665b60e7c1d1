"""Conditions of a model: status, reason and message of each. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llmjp_operator.decisions import JobStage
from llmjp_operator.names import RETRY, ROLLBACK_TO
from llmjp_operator.report.summary import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmjp_operator.api import Model
    from llmjp_operator.decisions import Decision, JobDecision, RolloutDecision
    from llmjp_operator.observe.snapshot import Snapshot


_MAX_SHOWN = 600
"""Characters of a pod's termination message that a condition repeats."""

HINT_TO_RETRY = (
    "to try again with nothing changed: "
    f'kubectl annotate -n NAMESPACE --overwrite ljm/NAME {RETRY}="$(date +%s)"'
)
"""For failures that may pass without a change of the spec, such as access that was granted. The
value is new each time: one that was there already tries nothing again."""


def judge_conditions(model: Model, snapshot: Snapshot, decision: Decision) -> tuple[Verdict, ...]:
    """Return the verdicts on Accepted, EngineReady, Available and Progressing."""
    return (
        _judge_accepted(decision),
        _judge_engine_ready(model, snapshot, decision),
        _judge_available(model, snapshot, decision),
        _judge_progressing(model, snapshot, decision),
    )


def _judge_accepted(decision: Decision) -> Verdict:
    if decision.problem is not None:
        return Verdict("Accepted", False, decision.problem.reason, decision.problem.message)
    return Verdict("Accepted", True, "Accepted", "the spec is accepted")


def _judge_engine_ready(model: Model, snapshot: Snapshot, decision: Decision) -> Verdict:
    if decision.problem is not None:
        message = "nothing is built until the spec is accepted"
        return Verdict("EngineReady", None, "NotAccepted", message)
    if (doing := _describe_jobs(model, snapshot, decision)) is not None:
        return Verdict("EngineReady", False, *doing)
    assert decision.artefact is not None, "nothing is left to do"
    if decision.incompatible is not None:
        return Verdict("EngineReady", False, "Incompatible", decision.incompatible)
    if decision.cache_hit:
        message = f"{decision.artefact.key} was already in the store"
        return Verdict("EngineReady", True, "CacheHit", message)
    return Verdict("EngineReady", True, "Built", f"{decision.artefact.key} was built")


def _judge_available(model: Model, snapshot: Snapshot, decision: Decision) -> Verdict:
    live, wanted = snapshot.deployment, model.spec.serving.replicas
    if live is None:
        return Verdict("Available", False, "NoEngine", "nothing has been rolled out yet")
    if live.ready:
        message = f"{live.ready} of {wanted} pods are ready, serving {decision.active_key}"
        if decision.closed_to_outside:
            message += (
                f"; its {model.spec.serving.service.type} lets in only whom the chart's value "
                "network.servingFrom names"
            )
        return Verdict("Available", True, "PodsReady", message)
    if wanted == 0:
        return Verdict("Available", False, "ScaledToZero", "spec.serving.replicas is 0")
    message = _find_pod_problem(model, snapshot) or "pods are starting"
    return Verdict("Available", False, "NoPodReady", message)


def _judge_progressing(model: Model, snapshot: Snapshot, decision: Decision) -> Verdict:
    if decision.problem is not None:
        return Verdict("Progressing", False, decision.problem.reason, decision.problem.message)
    if (doing := _describe_jobs(model, snapshot, decision)) is not None:
        return Verdict("Progressing", not doing[0].endswith("Failed"), *doing)
    if decision.incompatible is not None:
        return Verdict("Progressing", False, "Incompatible", decision.incompatible)
    return _judge_rollout(model, snapshot, decision)


def _judge_rollout(model: Model, snapshot: Snapshot, decision: Decision) -> Verdict:
    assert decision.artefact is not None
    live, rollout = snapshot.deployment, decision.rollout
    problem = _find_pod_problem(model, snapshot)
    why = f": {problem}" if problem else ""
    if rollout is None or rollout.rolled_back:
        assert live is not None, "there is something to deploy"
        message = (
            f"pods on {decision.artefact.key} did not become ready and were rolled back; "
            f"{live.key if rollout is None else rollout.key} is serving again. "
            f"Fix the spec{why}; {_hint_to_retry(model)}"
        )
        return Verdict("Progressing", False, "RolledBack", message)
    key = rollout.key
    if live is None or live.pods != decision.pod_digest or not live.observed:
        if live is not None and live.ready and model.spec.serving.max_surge == 0:
            message = f"{key}: with maxSurge 0 a pod ends before its replacement starts, so a "
            message += f"model with one pod is down meanwhile (replicas: {live.wanted})"
            return Verdict("Progressing", True, "Downtime", message)
        return Verdict("Progressing", True, "RollingOut", f"pods on {key} are starting")
    if live.stalled:
        message = f"pods on {key} did not become ready; the previous pods keep serving{why}"
        return Verdict("Progressing", False, "RolloutStalled", message)
    if live.complete:
        return _judge_complete(rollout)
    ready = sum(pod.ready for pod in snapshot.pods if pod.model == model.name and pod.key == key)
    message = f"{ready} of {live.wanted} pods on {key} are ready{why}"
    return Verdict("Progressing", True, "RollingOut", message)


def _judge_complete(rollout: RolloutDecision) -> Verdict:
    """Return the verdict on a rollout that is over, and is not what the spec asks for by itself."""
    key, revision = rollout.key, rollout.revision
    if rollout.held and revision is not None:
        message = (
            f"every replica runs revision {revision.number} ({key}), as the annotation "
            f"{ROLLBACK_TO} says; remove it to go on with the spec"
        )
        return Verdict("Progressing", False, "HeldAtRevision", message)
    if rollout.queued:
        message = f"every replica runs {key}; the upgrade waits for those of other models"
        return Verdict("Progressing", False, "UpgradeQueued", message)
    return Verdict("Progressing", False, "Complete", f"every replica runs {key}")


def _describe_jobs(model: Model, snapshot: Snapshot, decision: Decision) -> tuple[str, str] | None:
    """Return reason and message of the Job that pins or builds; None where there is none."""
    if decision.resolving is not None:
        return _describe_job(
            model, snapshot, decision.resolving, ("Resolve", "Resolving", "pinning the source")
        )
    if decision.building is not None:
        return _describe_job(
            model, snapshot, decision.building, ("Build", "Building", "building the engine")
        )
    return None


def _describe_job(
    model: Model, snapshot: Snapshot, job: JobDecision, words: tuple[str, str, str]
) -> tuple[str, str]:
    verb, doing, activity = words
    failed = job.failed
    if failed is not None and job.stage is JobStage.FAILED:
        failure = failed.failure
        tries = "1 attempt" if failed.attempts == 1 else f"{failed.attempts} attempts"
        tried = f" after {tries}" if failure.retryable else ""
        step = f" in step {failure.step}" if verb == "Build" else ""
        message = f"failed{tried}{step}: {failure.message} ({failure.code})"
        return f"{verb}Failed", f"{message}; {_hint_to_retry(model)}"
    if failed is not None and job.stage is JobStage.PAUSED:
        limit = model.spec.build.backoff_limit + 1
        again = f"attempt {job.attempt} of {limit} follows"
        return f"{verb}Retrying", f"{failed.failure.message} ({failed.failure.code}); {again}"
    if job.waiting:
        return doing, f"the pod of Job {job.job} cannot start: {job.waiting}"
    if snapshot.progress is not None and verb == "Build":
        return doing, f"Job {job.job} is {activity}, step {snapshot.progress.step}"
    return doing, f"Job {job.job} is {activity}"


def _hint_to_retry(model: Model) -> str:
    return HINT_TO_RETRY.replace("NAMESPACE", model.namespace).replace("NAME", model.name)


def _find_pod_problem(model: Model, snapshot: Snapshot) -> str:
    """Return why pods of the model do not become ready, as they report it; empty if unknown."""
    for pod in snapshot.pods:
        if pod.model != model.name or not pod.key or pod.ready or pod.deleting:
            continue
        if pod.termination is not None and pod.restarts:
            message = " ".join(_extract_message(pod.termination.message).split())[-_MAX_SHOWN:]
            return (
                f"pod {pod.name} terminated with exit code {pod.termination.exit_code}: {message}"
            )
        if pod.waiting:
            return f"pod {pod.name} cannot start: {pod.waiting}"
    live = snapshot.deployment
    return f"pods cannot be created: {live.refused}" if live is not None and live.refused else ""


def find_cause(model: Model, snapshot: Snapshot, decision: Decision) -> str:
    """Return Kubernetes' reason why pods do not start, such as `FailedMount`; empty if none is."""
    if decision.problem is not None:
        return ""
    words: Iterable[str] = (job.waiting for job in decision.jobs)
    if not decision.jobs and not (decision.rollout is None or decision.rollout.rolled_back):
        serving = (p for p in snapshot.pods if p.model == model.name and p.key and not p.deleting)
        live = snapshot.deployment
        words = (*(pod.waiting for pod in serving), "" if live is None else live.refused)
    reason = next(filter(None, words), "").partition(":")[0]
    return reason if reason.isidentifier() else ""


def _extract_message(text: str) -> str:
    """Return the message in a termination message, which is JSON if `llmjp` wrote it."""
    try:
        document = json.loads(text)
    except ValueError:
        return text or "it left no message"
    return (
        str(document["message"]) if isinstance(document, dict) and "message" in document else text
    )
