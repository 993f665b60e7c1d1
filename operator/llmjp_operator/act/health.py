"""What /healthz says of the process: the kubelet restarts one that fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio

    from llmjp_operator.act.leadership import Tenure
    from llmjp_operator.act.work_queue import WorkQueue
    from llmjp_operator.observe.cache import Key

STUCK_AFTER_S: Final = 600.0
"""How long one reconcile may take: each of its calls has a limit, and there are few dozen."""


@dataclass(slots=True)
class Health:
    """The parts of an operator that must be alive. Whoever asks shows that the event loop turns."""

    tenure: Tenure
    tasks: dict[str, asyncio.Future[Any]] = field(default_factory=dict)
    """By what they do; none of them ever ends while the operator leads."""
    queue: WorkQueue[Key] | None = None
    """What the workers take from; None while the operator does not lead."""

    def describe_failure(self) -> str:
        """Return what is wrong; empty if nothing is."""
        if self.tenure.is_over():
            return "the Lease was not renewed in time"
        for name, task in self.tasks.items():
            if task.done():
                return f"the {name} has ended{_describe_error(task)}"
        stuck = None if self.queue is None else self.queue.find_longest()
        if stuck is not None and stuck[1] > STUCK_AFTER_S:
            return f"{'/'.join(stuck[0])} has been reconciled for {stuck[1]:.0f} s"
        return ""


def _describe_error(task: asyncio.Future[Any]) -> str:
    if task.cancelled():
        return ""
    error = task.exception()
    return "" if error is None else f": {type(error).__name__}: {error}"
