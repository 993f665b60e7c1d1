"""Kubernetes events about models. Pure.

The name of an event is a digest of its notice: a notice that repeats raises the event's count, and
`kubectl describe` shows one line.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from llmjp_operator.names import API_VERSION, KIND, OPERATOR, compute_digest

if TYPE_CHECKING:
    from llmjp_operator.api import Model
    from llmjp_operator.report.notices import Notice

_MAX_MESSAGE = 1024
"""Characters of a message that the API server accepts (core/v1 validation)."""


def build_event(model: Model, notice: Notice, now: float, identity: str) -> dict[str, Any]:
    """Return the event that the operator of this identity posts."""
    time = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    name = compute_digest(f"{model.uid} {notice.type} {notice.reason} {notice.message}", 16)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{model.name}.{name}", "namespace": model.namespace},
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
