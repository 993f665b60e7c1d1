"""Writing a plan: objects, removals, the status, events; it may be cut off after any of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from llmjp_operator.api import encode
from llmjp_operator.errors import ApiRefused, NameTaken
from llmjp_operator.names import API_VERSION, FIELD_MANAGER, KIND, OWNERS_MANAGER
from llmjp_operator.observe.managed_fields import compute_object_digest
from llmjp_operator.observe.ownership import is_going, is_ours, parse_ownership
from llmjp_operator.observe.snapshot import ObjectRef
from llmjp_operator.render.storage import render_record
from llmjp_operator.report.events import build_event
from llmjp_operator.report.notices import find_notices
from llmjp_operator.report.status import build_hindered_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llmjp_operator.act.api_client import Cluster
    from llmjp_operator.act.snapshot_reader import AppliedDigests
    from llmjp_operator.api import Model, Status
    from llmjp_operator.observe.cache import ObjectCache
    from llmjp_operator.plan import ReconcilePlan, Removal

Object = dict[str, Any]

NEW: Final = "1"
"""Resource version of an object that must not exist yet. Server-side apply creates an object
whatever version is given, and refuses another version than the one that is there (409), which is
never 1: etcd's first revision is of etcd's own."""

CONFLICT: Final = 409
INVALID: Final = 422
"""Answer for an object that says something wrong, such as the uid of another one."""
MAKING_PODS: Final = frozenset({"Deployment", "Job"})
"""Kinds that come last, and make pods."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class PlanWriter:
    """Writes plans, and tells the cache what was stored."""

    cache: ObjectCache
    cluster: Cluster
    applied: AppliedDigests
    identity: str
    """Identity of this operator, for events."""
    wall_time: Callable[[], float]
    """Seconds since 1970."""

    async def write(self, model: Model, plan: ReconcilePlan) -> None:
        """Write everything that can be written, and report what could not.

        Raises:
            OperatorError: the first thing that could not be written; what was done stays done.
        """
        if plan.details:
            _log.debug("plan", extra={"model": _name(model), "details": plan.details})
        await self._remove(model, plan.remove_first)
        refusals = await self._apply_all(model, plan)
        for owners in plan.add_owners:
            await self._apply(model, owners, manager=OWNERS_MANAGER)
        await self._remove(model, plan.remove)
        await self._report(model, plan, refusals)
        if refusals:
            raise refusals[0]

    async def _apply_all(self, model: Model, plan: ReconcilePlan) -> list[ApiRefused]:
        """Apply the record and all objects; return what was refused."""
        if plan.record is not None:
            # Nothing may follow from what is not recorded: a refusal ends the reconcile.
            await self._apply(model, render_record(model, plan.record))
        refusals: list[ApiRefused] = []
        for wanted in plan.apply:
            if refusals and wanted["kind"] in MAKING_PODS:
                continue  # Its pods need what was refused: their volume, their policy.
            try:
                await self._apply(model, wanted)
            except NameTaken:
                raise  # Nothing more is begun without the object.
            except ApiRefused as exc:
                refusals.append(exc)
        return refusals

    async def _report(
        self, model: Model, plan: ReconcilePlan, refusals: Iterable[ApiRefused]
    ) -> None:
        """Write the status and post events; of refusals only those that a person must end."""
        status, events = plan.status, plan.notices
        final = next((refusal for refusal in refusals if not refusal.is_transient), None)
        if final is not None:
            status = build_hindered_status(model, plan.status, str(final), self.wall_time())
            events = find_notices(model, status)
        await self.write_status(model, status)
        for notice in events:
            await self.cluster.post_event(
                build_event(model, notice, self.wall_time(), self.identity)
            )

    async def write_status(self, model: Model, status: Status) -> None:
        """Write the status, if it differs from the one that is there."""
        if encode(status) == encode(model.status):
            return
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": model.name, "namespace": model.namespace},
            "status": encode(status),
        }
        try:
            await self.cluster.apply(body, manager=FIELD_MANAGER, status=True)
        except ApiRefused as exc:
            if exc.status != 404:  # it was deleted meanwhile
                raise
        self.cache.put_status(model, status)
        _log.info("status written", extra={"model": _name(model), "phase": str(status.phase)})

    async def _remove(self, model: Model, removals: Iterable[Removal]) -> None:
        for removal in removals:
            ref = removal.ref
            await self.cluster.delete(ref.kind, model.namespace, ref.name, removal.uid)

    async def _apply(self, model: Model, wanted: Object, *, manager: str = FIELD_MANAGER) -> None:
        """Apply an object: the one that was seen to be ours, or else a new one."""
        kind, metadata = wanted["kind"], wanted["metadata"]
        ref = ObjectRef(kind, metadata["name"])
        known = self.cache.find_object(model, ref)
        condition = {"resourceVersion": NEW} if known is None else {"uid": known.uid}
        if known is not None and kind == "ConfigMap":
            # The record is read and written whole: what another operator wrote must be read first.
            condition["resourceVersion"] = str(known.version)
        guarded = {**wanted, "metadata": {**metadata, **condition}}
        try:
            stored = await self.cluster.apply(guarded, manager=manager)
        except ApiRefused as exc:
            if exc.status not in {CONFLICT, INVALID}:
                raise
            await self._find_out_whose(model, ref, exc)
            raise
        self.cache.put(kind, stored)
        where = (kind, model.namespace, ref.name)
        if manager == FIELD_MANAGER:
            self.applied.note(
                where, applied=compute_object_digest(wanted), read=self.cache.get_digest(*where)
            )

    async def _find_out_whose(self, model: Model, ref: ObjectRef, refusal: ApiRefused) -> None:
        """Read an object that is not the one that was seen, and note if it is somebody else's.

        Raises:
            NameTaken: it is.
            ApiRefused: it is ours, or about to go: to be tried again.
        """
        body = await self.cluster.get(ref.kind, model.namespace, ref.name)
        known = self.cache.find_object(model, ref)
        if body is None and refusal.status == INVALID:
            return  # It was refused for what it says.
        if body is not None and known is not None and body["metadata"]["uid"] == known.uid:
            self.cache.put(ref.kind, body)
            return  # It was refused for another reason, or is newer.
        if body is not None:
            whose = parse_ownership(body)
            if is_ours(ref, whose, model):
                self.cache.put(ref.kind, body)
            elif not is_going(whose, self.cache.list_model_uids()):
                self.cache.note_taken(model, ref)
                raise NameTaken(str(ref)) from refusal
        raise ApiRefused(CONFLICT, f"apply {ref}", "it has changed: it is read again") from refusal


def _name(model: Model) -> str:
    return f"{model.namespace}/{model.name}"
