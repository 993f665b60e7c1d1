"""Kubernetes events about models. Pure.

The same notice has the same name: told again, it is counted, and `kubectl describe` shows one line.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from llmjp_operator.names import API_VERSION, KIND, OPERATOR, compute_digest

if TYPE_CHECKING:
    from llmjp_operator.api import Model
    from llmjp_operator.report.notices import Notice

_MAX_MESSAGE = 1024
"""Characters of an event's message that the API server takes (core/v1 validation)."""


def build_event(model: Model, notice: Notice, now: float, identity: str) -> dict[str, Any]:
    """The event, for `identity`, the operator that tells it."""
    time = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    told = compute_digest(f"{model.uid} {notice.type} {notice.reason} {notice.message}", 16)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{model.name}.{told}", "namespace": model.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": model.name,
            "namespace": model.namespace,
            "uid": model.uid,
        },
        "type": notice.type,
        "reason": notice.reason,
        "message": notice.message[:_MAX_MESSAGE],
        "source": {"component": OPERATOR},
        "reportingComponent": OPERATOR,
        "reportingInstance": identity,
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
