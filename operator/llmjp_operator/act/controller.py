"""Carries out what `reconcile` says: looks, decides, writes. The only place that joins them."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from llmjp_builder.contracts.errors import BuilderError
from llmjp_builder.contracts.spec import Progress
from llmjp_operator.api import Model, encode
from llmjp_operator.decide.requeue import PROGRESS_EVERY_S
from llmjp_operator.errors import ApiRefused, OperatorError
from llmjp_operator.names import (
    API_VERSION,
    FIELD_MANAGER,
    KIND,
    MODEL_LABEL,
    OWNERS_MANAGER,
    digest,
    record_name,
)
from llmjp_operator.observe.managed_fields import digest_of
from llmjp_operator.observe.parsing import claim_fact, node_fact
from llmjp_operator.observe.snapshot import (
    CalibrationTexts,
    ObjectRef,
    ObservedClaim,
    ObservedDeployment,
    ObservedJob,
    ObservedPod,
    Snapshot,
)
from llmjp_operator.plan import plan_reconcile
from llmjp_operator.render.storage import record
from llmjp_operator.report.events import event
from llmjp_operator.report.notices import notices
from llmjp_operator.report.status import hindered, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llmjp_operator.act.api_client import Cluster
    from llmjp_operator.act.metrics import Metrics
    from llmjp_operator.api import Status
    from llmjp_operator.observe.cache import CachedObject, InvalidResource, Key, ObjectCache
    from llmjp_operator.observe.snapshot import ObservedNode
    from llmjp_operator.plan import ReconcilePlan, Removal
    from llmjp_operator.settings import Settings

Object = dict[str, Any]

_log = logging.getLogger(__name__)

NODES_EVERY_S: Final = 15.0
"""How long a list of the nodes is good for."""
NODES_AFRESH_S: Final = 1.0
"""The same, before pods are made: they must not meet GPUs that have been exchanged."""
FORGET_S: Final = 600.0
"""After how long the progress of a build that is not asked for is forgotten."""
LOG_LINES: Final = 20
"""Of a build's log, to find its last progress in."""


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
    _locks: defaultdict[tuple[str, str], asyncio.Lock] = field(
        default_factory=lambda: defaultdict(asyncio.Lock)
    )
    _stored: dict[tuple[str, str, str], tuple[str, str]] = field(default_factory=dict)
    """Of what was applied and reads back differently: its digest, and that of what was read."""
    _nodes: tuple[float, tuple[ObservedNode, ...] | None] | None = None
    _progress: dict[str, tuple[float, Progress | None]] = field(default_factory=dict)
    """By pod: when its log was read, and what it said last."""

    async def reconcile(self, key: Key) -> float | None:
        """One plan of a model; after how many seconds the next is due.

        Raises:
            OperatorError: the API server would not have it; what was done stays done.
        """
        model = self.cache.models.get(key)
        if model is None:
            return None
        if not isinstance(model, Model):
            await self._refuse(model)
            return None
        if model.deleting:
            return None
        async with self._locks[model.namespace, model.store_claim]:
            snapshot = await self._snapshot(model)
            plan = plan_reconcile(model, snapshot, self.settings)
            if plan.creates_pods:
                nodes = await self._nodes_for(model, NODES_AFRESH_S)
                if nodes != snapshot.nodes:
                    plan = plan_reconcile(model, replace(snapshot, nodes=nodes), self.settings)
            try:
                await self._carry_out(model, plan)
            except ApiRefused as exc:
                if exc.is_going:
                    return None
                raise
        return plan.requeue_after_s

    async def _refuse(self, broken: InvalidResource) -> None:
        from llmjp_operator.api import Spec, decode
        from llmjp_operator.api.status import Status as StatusOf

        try:
            before = decode(StatusOf, broken.status, "status", strict=False)
        except OperatorError:
            before = StatusOf()
        model = Model(
            name=broken.name,
            namespace=broken.namespace,
            uid=broken.uid,
            generation=broken.generation,
            spec=decode(Spec, _ANY_SPEC, "spec"),
            status=before,
        )
        await self._say(model, refused(model, broken.message, self.wall_time()))

    async def _snapshot(self, model: Model) -> Snapshot:
        seen = list(self.cache.of(model))
        observed = [(ref, one.value) for ref, one in seen]
        pods = tuple(value for _, value in observed if isinstance(value, ObservedPod))
        claims = {value.name: value for _, value in observed if isinstance(value, ObservedClaim)}
        ours = next(
            (f for r, f in observed if isinstance(f, ObservedDeployment) and r.name == model.name),
            None,
        )
        jobs = {value.name: value for _, value in observed if isinstance(value, ObservedJob)}
        return Snapshot(
            now=self.wall_time(),
            sharing=self._sharing(model),
            record=self.cache.record(model.namespace, record_name(model.store_claim)),
            jobs=jobs,
            pods=pods,
            deployment=ours,
            claims=claims | await self._foreign_claims(model),
            nodes=await self._nodes_for(model),
            texts=await self._texts(model),
            progress=await self._progress_of(model, jobs.values(), pods),
            live=dict(self._live(model, seen)),
        )

    def _sharing(self, model: Model) -> tuple[Model, ...]:
        found = (self.cache.models.get(key) for key in self.cache.sharing(model))
        return tuple(m for m in found if isinstance(m, Model) and not m.deleting)

    def _live(
        self, model: Model, seen: Iterable[tuple[ObjectRef, CachedObject]]
    ) -> Iterable[tuple[ObjectRef, str]]:
        mine = (model.namespace, MODEL_LABEL, model.name)
        for ref, one in seen:
            if ref.kind == "Pod" or mine not in one.groups:
                continue
            wanted, read = self._stored.get((ref.kind, model.namespace, ref.name), ("", ""))
            yield ref, wanted if read and read == one.digest else one.digest

    async def _foreign_claims(self, model: Model) -> dict[str, ObservedClaim]:
        volume = model.spec.source.persistent_volume_claim
        names = {model.spec.storage.existing_claim, volume.claim_name if volume else None}
        found = {}
        for name in sorted(filter(None, names)):
            body = await self.cluster.get("PersistentVolumeClaim", model.namespace, name)
            if body is not None:
                found[name] = claim_fact(body)
        return found

    async def _nodes_for(
        self, model: Model, age_s: float = NODES_EVERY_S
    ) -> tuple[ObservedNode, ...] | None:
        """Only where the GPUs of nodes decide something."""
        if not model.spec.serving_gpus:
            return None
        now = self.monotonic_time()
        if self._nodes is None or now - self._nodes[0] > age_s:
            nodes = await self.cluster.nodes()
            known = None if nodes is None else tuple(node_fact(node) for node in nodes)
            self._nodes = (now, known)
        return self._nodes[1]

    async def _texts(self, model: Model) -> CalibrationTexts | None:
        calibration = model.spec.engine.calibration
        ref = None if calibration is None else calibration.config_map_ref
        if ref is None:
            return None
        found = await self.cluster.get("ConfigMap", model.namespace, ref.name)
        if found is None:
            return CalibrationTexts(digest="", problem=f"there is no ConfigMap {ref.name}")
        text = (found.get("data") or {}).get(ref.key)
        if text is None:
            return CalibrationTexts(
                digest="", problem=f"the ConfigMap {ref.name} has no key {ref.key}"
            )
        return CalibrationTexts(digest=digest(text))

    async def _progress_of(
        self, model: Model, jobs: Iterable[ObservedJob], pods: Iterable[ObservedPod]
    ) -> Progress | None:
        """What the build that the model waits for said last; its log is read now and then."""
        mine = {job.uid for job in jobs if model.uid in job.owners and job.request}
        running = (p for p in pods if p.job in mine and p.phase == "Running" and not p.deleting)
        pod = next(running, None)
        if pod is None:
            return None
        now = self.monotonic_time()
        read_at, said = self._progress.get(pod.name, (-PROGRESS_EVERY_S, None))
        if now - read_at >= PROGRESS_EVERY_S:
            text = await self.cluster.log_tail(model.namespace, pod.name, pod.container, LOG_LINES)
            said = last_progress(text) or said
            old = [name for name, (at, _) in self._progress.items() if now - at > FORGET_S]
            for name in old:
                del self._progress[name]
            self._progress[pod.name] = (now, said)
        return said

    async def _carry_out(self, model: Model, plan: ReconcilePlan) -> None:
        """Write everything that can be written; say what could not be, and raise it."""
        errors: list[OperatorError] = []
        await self._remove(model, plan.remove_first)
        objects = list(plan.apply)
        if plan.record is not None:
            objects.insert(0, record(model, plan.record))
        for wanted in objects:
            try:
                await self._apply(wanted)
            except ApiRefused as exc:
                errors.append(exc)
                if wanted["kind"] == "ConfigMap":
                    raise  # nothing may follow from what is not recorded
        for joined in plan.add_owners:
            await self.cluster.apply(joined, manager=OWNERS_MANAGER)
        await self._remove(model, plan.remove)
        final = next((e for e in errors if isinstance(e, ApiRefused) and not e.may_pass), None)
        said = (
            plan.status
            if final is None
            else hindered(model, plan.status, str(final), self.wall_time())
        )
        await self._say(model, said)
        for notice in plan.notices if final is None else notices(model, said):
            await self.cluster.tell(event(model, notice, self.wall_time(), self.settings.identity))
        if errors:
            raise errors[0]

    async def _remove(self, model: Model, removals: Iterable[Removal]) -> None:
        for removal in removals:
            ref = removal.ref
            await self.cluster.remove(ref.kind, model.namespace, ref.name, removal.uid)

    async def _apply(self, wanted: Object) -> None:
        kind, metadata = wanted["kind"], wanted["metadata"]
        stored = await self.cluster.apply(wanted)
        self.cache.see(kind, stored)
        where = (kind, metadata["namespace"], metadata["name"])
        asked, read = digest_of(wanted), self.cache.digest(*where)
        if asked == read:
            self._stored.pop(where, None)
        else:
            self._stored[where] = (asked, read)

    async def _say(self, model: Model, said: Status) -> None:
        """Write the status, if it is another than the one that is there."""
        if encode(said) == encode(model.status):
            return
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": model.name, "namespace": model.namespace},
            "status": encode(said),
        }
        try:
            await self.cluster.apply(body, manager=FIELD_MANAGER, status=True)
        except ApiRefused as exc:
            if exc.status != 404:  # it was deleted meanwhile
                raise
        self.cache.said(model, said)
        _log.info(
            "status written",
            extra={"model": f"{model.namespace}/{model.name}", "phase": str(said.phase)},
        )


_ANY_SPEC: Final = {
    "source": {"persistentVolumeClaim": {"claimName": "none"}},
    "storage": {"existingClaim": "none"},
}
"""In place of a spec that cannot be read; nothing follows from it."""


def last_progress(log: str) -> Progress | None:
    """The last line of a build's log that tells its progress (pure)."""
    for line in reversed(log.splitlines()):
        try:
            return Progress.from_json(json.loads(line))
        except (ValueError, BuilderError):
            continue
    return None
