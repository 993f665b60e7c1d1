"""Fields of LlmJpModels and pods that `llmjp status` reads, however incomplete. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from llmjp_cli.console import format_duration

Object = dict[str, Any]

_STARTING = {"ContainerCreating", "PodInitializing"}
"""Reasons for waiting that are no problem."""


def get_status(model: Object) -> Object:
    """Return a model's status; empty before the operator has written one."""
    return model.get("status") or {}


def get_conditions(model: Object) -> dict[str, Object]:
    """Return a model's conditions by type."""
    return {str(c.get("type")): c for c in get_status(model).get("conditions") or ()}


def get_phase(model: Object) -> str:
    """Return a model's phase."""
    return str(get_status(model).get("phase") or "Pending")


def is_available(model: Object) -> bool:
    """Return whether a pod of the model answers."""
    return (get_conditions(model).get("Available") or {}).get("status") == "True"


def is_ready(pod: Object) -> bool:
    """Return whether a pod is ready."""
    return any(
        (c.get("type"), c.get("status")) == ("Ready", "True")
        for c in (pod.get("status") or {}).get("conditions") or ()
    )


def get_container_statuses(pod: Object) -> list[Object]:
    """Return the statuses of a pod's containers, init containers first."""
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def find_headline(model: Object) -> str:
    """Return the message of the condition that matters most."""
    conditions = get_conditions(model)
    for kind, telling in (
        *(("Stalled", "True"), ("Reconciling", "True")),
        *(("Accepted", "False"), ("Progressing", "True")),  # of operators before these two
    ):
        condition = conditions.get(kind) or {}
        if condition.get("status") == telling:
            return str(condition.get("message") or "")
    rest = "Progressing" if get_phase(model) in {"Failed", "Degraded"} else "Available"
    return str((conditions.get(rest) or {}).get("message") or "")


def explain_waiting(pod: Object) -> str:
    """Return why a pod does not run, as scheduler or kubelet say; empty where it does."""
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if (condition.get("type"), condition.get("status")) == ("PodScheduled", "False"):
            return str(condition.get("message") or condition.get("reason") or "not scheduled")
    for container in get_container_statuses(pod):
        state = container.get("state") or {}
        waiting = state.get("waiting") or {}
        if waiting.get("reason") and waiting["reason"] not in _STARTING:
            return f"{waiting['reason']}: {waiting.get('message') or ''}".removesuffix(": ")
        ended = state.get("terminated") or {}
        if ended.get("exitCode"):
            words = " ".join(str(ended.get("message") or ended.get("reason") or "").split())
            return f"exit code {ended['exitCode']}: {words}"
    return ""


def format_line(model: Object) -> str:
    """Format one line for logs: phase, progress and the most important message."""
    parts = (get_phase(model), format_progress(model), find_headline(model))
    return "  ".join(part for part in parts if part)


def format_progress(model: Object) -> str:
    """Format a build's progress as `convert 41% 6:20 left`; empty where nothing is built."""
    build = get_status(model).get("build") or {}
    if not build.get("step"):
        return ""
    percent = "" if build.get("percent") is None else f" {build['percent']}%"
    eta = build.get("etaSeconds")
    return f"{build['step']}{percent}" + ("" if eta is None else f" {format_duration(eta)} left")


def format_age(timestamp: str | None, now: float) -> str:
    """Format an age as `5d`, `3h`, `12m` or `40s`; empty where it is not known."""
    then = parse_time(timestamp)
    if then is None:
        return ""
    passed = max(0, round(now - then))
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if passed >= 2 * length:
            return f"{passed // length}{unit}"
    return f"{passed}s"


def parse_time(timestamp: str | None) -> float | None:
    """Return seconds since 1970; None for no timestamp."""
    if not timestamp:
        return None
    return datetime.fromisoformat(timestamp).astimezone(UTC).timestamp()
