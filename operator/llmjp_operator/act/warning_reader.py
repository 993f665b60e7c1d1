"""Why Jobs and pods wait that do not say so themselves: the last event about each, now and then.

Events are not watched: a cluster has many, and few concern a model. Those about one object are
listed, once it has waited for a while.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from llmjp_operator.decide.requeue import WAITING_EVERY_S
from llmjp_operator.decide.waiting import find_silent
from llmjp_operator.observe.parsing import parse_warning

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmjp_operator.act.api_client import Cluster
    from llmjp_operator.api import Model
    from llmjp_operator.observe.snapshot import Snapshot

FORGET_S: Final = 600.0
"""After how long the warning about an object that nobody asks for is forgotten."""


@dataclass(slots=True)
class WarningReader:
    """Reads warnings. What was read is kept for a while."""

    cluster: Cluster
    monotonic_time: Callable[[], float]
    """Seconds, for pauses."""
    _known: dict[str, tuple[float, str]] = field(default_factory=dict)
    """By uid of the object: when its events were read, or it was first seen, and the warning."""

    async def add_warnings(self, model: Model, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot with the reasons why the model's silent Jobs and pods wait."""
        silent = {waits.uid for waits in find_silent(model, snapshot)}
        words = {uid: await self._read(model.namespace, uid) for uid in sorted(silent)}
        return replace(
            snapshot,
            silent=frozenset(silent),
            pods=tuple(replace(p, waiting=words.get(p.uid, p.waiting)) for p in snapshot.pods),
            jobs={
                name: replace(job, waiting=words.get(job.uid, ""))
                for name, job in snapshot.jobs.items()
            },
        )

    async def _read(self, namespace: str, uid: str) -> str:
        now = self.monotonic_time()
        known = self._known.get(uid)
        if known is None:  # Most start at once.
            self._forget_old(now)
            self._known[uid] = (now, "")
            return ""
        if now - known[0] >= WAITING_EVERY_S:
            known = (now, parse_warning(await self.cluster.list_events(namespace, uid)))
            self._known[uid] = known
        return known[1]

    def _forget_old(self, now: float) -> None:
        for uid in [uid for uid, (at, _) in self._known.items() if now - at > FORGET_S]:
            del self._known[uid]
