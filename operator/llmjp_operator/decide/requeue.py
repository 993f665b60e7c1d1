"""When to look at a model again though nothing happened. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llmjp_operator.decide.waiting import needs_another_look
from llmjp_operator.decisions import JobStage

if TYPE_CHECKING:
    from llmjp_operator.decisions import Decision
    from llmjp_operator.observe.snapshot import Snapshot

PROGRESS_EVERY_S: Final = 10.0
"""How often the log of a running build is read."""
WAITING_EVERY_S: Final = 10.0
"""How often the events about a Job without a pod, or a pod that does not start, are read."""
POLLED: Final = frozenset({"ClaimMissing", "NameTaken", "StorageWouldDeadlock", "TextsMissing"})
"""Problems with objects that we do not watch, so we poll for a fix."""
POLL_EVERY_S: Final = 20.0
"""How often we poll for it."""
TEXTS_EVERY_S: Final = 60.0
"""How often calibration texts are read: a watch on them would be one on all ConfigMaps of a
cluster, of which few are ours."""
_SOONEST_S: Final = 0.1


def decide_requeue(snapshot: Snapshot, decision: Decision) -> float | None:
    """Return after how many seconds to look again; None for not before something happens."""
    pauses = [
        max(job.due - snapshot.now, _SOONEST_S) for job in decision.jobs if job.due is not None
    ]
    if decision.building is not None and decision.building.stage is JobStage.RUNNING:
        pauses.append(PROGRESS_EVERY_S)
    if decision.problem is not None and decision.problem.reason in POLLED:
        pauses.append(POLL_EVERY_S)
    if decision.rollout is not None and decision.rollout.queued:
        pauses.append(POLL_EVERY_S)
    if decision.incompatible is not None:  # nodes are not watched either
        pauses.append(POLL_EVERY_S)
    if snapshot.texts is not None:
        pauses.append(TEXTS_EVERY_S)
    if needs_another_look(snapshot):
        pauses.append(WAITING_EVERY_S)
    return min(pauses, default=None)
