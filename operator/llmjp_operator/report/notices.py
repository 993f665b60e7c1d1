"""What is told as events: every change of a condition, once. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from llmjp_operator.api import Condition, Model, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """An event about a model."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


WARNINGS: Final = frozenset(
    {
        "BackendNotServed",
        "BuildFailed",
        "BuildRetrying",
        "CannotWork",
        "ClaimMissing",
        "Downtime",
        "Hindered",
        "ImageMissing",
        "Incompatible",
        "InvalidSpec",
        "LicenceNotAccepted",
        "ResolveFailed",
        "ResolveRetrying",
        "RolledBack",
        "RolloutStalled",
        "SeveralNodesNeeded",
        "StorageWouldDeadlock",
        "TextsMissing",
    }
)
"""Reasons that a person should look at; their messages are told again when they change."""


def find_notices(model: Model, said: Status) -> tuple[Notice, ...]:
    """What is new in `said`, compared with what was written last. One notice for each reason."""
    before = {condition.type: condition for condition in model.status.conditions}
    told: dict[str, Notice] = {}
    for condition in said.conditions:
        if _is_news(condition, before.get(condition.type)) and condition.reason not in told:
            warning = condition.reason in WARNINGS
            told[condition.reason] = Notice(
                type="Warning" if warning else "Normal",
                reason=condition.reason,
                message=condition.message,
            )
    return tuple(told.values())


def _is_news(now: Condition, before: Condition | None) -> bool:
    if before is None:
        return now.status != "Unknown"
    if (now.status, now.reason) != (before.status, before.reason):
        return True
    return now.reason in WARNINGS and now.message != before.message
