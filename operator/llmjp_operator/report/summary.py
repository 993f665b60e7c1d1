"""The conditions that tools read: `Ready`, `Reconciling`, `Stalled`, as kstatus defines them. Pure.

They sum up the model's own conditions, so that whatever waits for objects (Flux, Argo CD, kpt,
`kubectl wait`) tells work under way from an end that only a person can change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

from llmjp_operator.api import Condition, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmjp_operator.api import Status

SUMMARY: Final = ("Ready", "Reconciling", "Stalled")
"""Types of the conditions that sum up the others."""
_TELLING: Final = ("Stalled", "Reconciling")
"""Types that keep a sentence which others share: kstatus shows no other message."""


_SETTLED: Final = frozenset({"Complete", "HeldAtRevision", "UpgradeQueued"})
"""Reasons of Progressing with which nothing more is asked for."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Status, reason and message for one type of condition."""

    type: str
    holds: bool | None
    """None where it is not known."""
    reason: str
    message: str


_Claim = TypeVar("_Claim", Verdict, Condition)


def summarize(phase: Phase, progressing: Verdict, cause: str = "") -> tuple[Verdict, ...]:
    """Return the verdicts on Ready, Reconciling and Stalled.

    Args:
        phase: phase of the model.
        progressing: verdict on Progressing.
        cause: Kubernetes' reason why pods are missing, such as `FailedMount`; empty if there is
            none.
    """
    reason, message = progressing.reason, progressing.message
    ready = phase in {Phase.SERVING, Phase.IDLE} and reason in _SETTLED
    busy = not ready and progressing.holds is True
    stalled = not ready and not busy
    why = "ScaledToZero" if ready and phase is Phase.IDLE else reason if ready else cause or reason
    return (
        Verdict("Ready", ready, why, ""),
        Verdict("Reconciling", busy, reason, message if busy else ""),
        Verdict("Stalled", stalled, reason, message if stalled else ""),
    )


def say_once(claims: Iterable[_Claim]) -> tuple[_Claim, ...]:
    """Return verdicts or conditions with each sentence in one of them only."""
    listed = tuple(claims)
    tellers: dict[str, str] = {}
    for claim in sorted(listed, key=lambda claim: claim.type not in _TELLING):
        tellers.setdefault(claim.message, claim.type)
    return tuple(
        claim if tellers[claim.message] == claim.type else replace(claim, message="")
        for claim in listed
    )


def find_message(condition: Condition, status: Status) -> str:
    """Return a condition's message; where it has none, that of another with the same reason."""
    same = (c.message for c in status.conditions if c.reason == condition.reason and c.message)
    return condition.message or next(same, "")
