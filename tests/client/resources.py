"""LlmJpModels as the API server has them."""

from __future__ import annotations

from typing import Any

from tests.operator.model_bodies import make_model_body

Object = dict[str, Any]
HOST = "a.mine.svc"


def condition(kind: str, status: str, reason: str = "Reason", message: str = "why") -> Object:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


def said(phase: str, *conditions: Object, generation: int = 1, **more: Any) -> Object:
    return {
        "phase": phase,
        "observedGeneration": generation,
        "conditions": list(conditions),
        **more,
    }


ENDPOINT = {"grpc": f"{HOST}:8001", "http": f"{HOST}:8000", "model": "llmjp"}
SERVES = said("Serving", condition("Available", "True"), endpoint=ENDPOINT, selector="app=a")


def resource(status: Object | None, tls: str = "") -> Object:
    found = make_model_body({"serving": {"tls": {"secretName": tls}}} if tls else None)
    found["metadata"] |= {"generation": 1, "resourceVersion": "1"}
    return found if status is None else {**found, "status": status}
