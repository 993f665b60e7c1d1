"""The reconcile loop's body: take a snapshot of a model, plan, write."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from llmjp_operator.act.plan_writer import PlanWriter
from llmjp_operator.act.snapshot_reader import AppliedDigests, SnapshotReader
from llmjp_operator.api import Model, Spec, Status, decode
from llmjp_operator.errors import ApiRefused, NameTaken, OperatorError
from llmjp_operator.plan import plan_reconcile
from llmjp_operator.report.status import build_invalid_status

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmjp_operator.act.api_client import Cluster
    from llmjp_operator.act.metrics import Metrics
    from llmjp_operator.observe.cache import InvalidResource, Key, ObjectCache
    from llmjp_operator.plan import ReconcilePlan
    from llmjp_operator.settings import Settings

NODES_AFRESH_S: Final = 1.0
"""How old a list of the nodes may be before pods are created: they must not meet GPUs that have
been exchanged."""
AT_ONCE_S: Final = 0.1
"""Pause before a model is looked at again at once."""


@dataclass(slots=True)
class Controller:
    """Reconciles one model at a time, and the models of one store one after the other."""

    cache: ObjectCache
    cluster: Cluster
    settings: Settings
    metrics: Metrics
    wall_time: Callable[[], float] = time.time
    """Seconds since 1970."""
    monotonic_time: Callable[[], float] = time.monotonic
    """Seconds, for pauses."""
    snapshots: SnapshotReader = field(init=False)
    writer: PlanWriter = field(init=False)
    _locks: defaultdict[tuple[str, str], asyncio.Lock] = field(
        default_factory=lambda: defaultdict(asyncio.Lock)
    )
    """By store: its models share a record."""

    def __post_init__(self) -> None:
        applied = AppliedDigests()
        self.snapshots = SnapshotReader(
            self.cache, self.cluster, applied, self.wall_time, self.monotonic_time
        )
        self.writer = PlanWriter(
            self.cache, self.cluster, applied, self.settings.identity, self.wall_time
        )

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile a model; return after how many seconds to do so again though nothing happened.

        Raises:
            OperatorError: the API server would not have it; what was done stays done.
        """
        model = self.cache.models.get(key)
        if model is None:
            return None
        if not isinstance(model, Model):
            await self._report_invalid(model)
            return None
        if model.deleting:
            return None
        await self.snapshots.poll_progress(model)
        async with self._locks[model.namespace, model.store_claim]:
            plan = await self._plan(model)
            if plan.rolls:
                self.cache.writing_rollouts.add(key)
            try:
                await self.writer.write(model, plan)
            except NameTaken:
                return AT_ONCE_S  # The next plan says so.
            except ApiRefused as exc:
                if exc.namespace_is_terminating:
                    return None
                raise
            finally:
                self.cache.writing_rollouts.discard(key)
        return plan.requeue_after_s

    async def _plan(self, model: Model) -> ReconcilePlan:
        snapshot = await self.snapshots.take(model)
        plan = plan_reconcile(model, snapshot, self.settings)
        if not plan.creates_pods:
            return plan
        nodes = await self.snapshots.read_nodes(model, NODES_AFRESH_S)
        # Another model's rollout may have begun while this one waited.
        fresh = replace(snapshot, nodes=nodes, upgrading=self.cache.count_rolling(model))
        return plan_reconcile(model, fresh, self.settings)

    async def _report_invalid(self, resource: InvalidResource) -> None:
        """Write the status of a model that cannot be read; what else it says stays."""
        try:
            status = decode(Status, resource.status, "status", strict=False)
        except OperatorError:
            status = Status()
        model = Model(
            name=resource.name,
            namespace=resource.namespace,
            uid=resource.uid,
            generation=resource.generation,
            spec=decode(Spec, _ANY_SPEC, "spec"),
            status=status,
        )
        new_status = build_invalid_status(model, resource.message, self.wall_time())
        await self.writer.write_status(model, new_status)


_ANY_SPEC: Final = {
    "source": {"persistentVolumeClaim": {"claimName": "none"}},
    "storage": {"existingClaim": "none"},
}
"""In place of a spec that cannot be read; nothing follows from it."""
