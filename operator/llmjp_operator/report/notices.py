"""Changes of conditions, each to be posted as an event once. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from llmjp_operator.report.summary import SUMMARY, find_message

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
        "NameTaken",
        "ResolveFailed",
        "ResolveRetrying",
        "RevisionMissing",
        "RolledBack",
        "RolloutStalled",
        "SeveralNodesNeeded",
        "StorageWouldDeadlock",
        "TextsMissing",
        "TokenNotAllowed",
    }
)
"""Reasons that need a person; a changed message of one is news, too."""


def find_notices(model: Model, new: Status) -> tuple[Notice, ...]:
    """Return what is new compared with the last status: at most one notice for each reason."""
    old = model.status
    before = {condition.type: condition for condition in old.conditions}
    notices: dict[str, Notice] = {}
    for condition in new.conditions:
        if condition.type in SUMMARY or condition.reason in notices:
            continue
        known, message = before.get(condition.type), find_message(condition, new)
        told = "" if known is None else find_message(known, old)
        if _is_news(condition, known) or (condition.reason in WARNINGS and message != told):
            notices[condition.reason] = Notice(
                type="Warning" if condition.reason in WARNINGS else "Normal",
                reason=condition.reason,
                message=message,
            )
    return tuple(notices.values())


def _is_news(now: Condition, before: Condition | None) -> bool:
    if before is None:
        return now.status != "Unknown"
    return (now.status, now.reason) != (before.status, before.reason)
