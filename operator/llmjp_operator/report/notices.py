"""Changes of conditions, each to be posted as an event once. Pure."""

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
"""Reasons that need a person; a changed message of one is news, too."""


def find_notices(model: Model, new: Status) -> tuple[Notice, ...]:
    """Return what is new compared with the last status: at most one notice for each reason."""
    before = {condition.type: condition for condition in model.status.conditions}
    notices: dict[str, Notice] = {}
    for condition in new.conditions:
        if _is_news(condition, before.get(condition.type)) and condition.reason not in notices:
            warning = condition.reason in WARNINGS
            notices[condition.reason] = Notice(
                type="Warning" if warning else "Normal",
                reason=condition.reason,
                message=condition.message,
            )
    return tuple(notices.values())


def _is_news(now: Condition, before: Condition | None) -> bool:
    if before is None:
        return now.status != "Unknown"
    if (now.status, now.reason) != (before.status, before.reason):
        return True
    return now.reason in WARNINGS and now.message != before.message
