"""The operator in memory: the real controller, cache and kopf handlers on a fake API server.

Time is simulated. Watch events are delivered between reconciles, and a model is reconciled when an
event, or the time that it asked for, is due: what nobody wakes stays asleep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from e2e.fake_kubelet import succeed
from llmjp_operator.act.controller import Controller
from llmjp_operator.act.initial_list import fill_cache
from llmjp_operator.act.kopf_watch import KINDS, make_model_handler, make_object_handler
from llmjp_operator.act.metrics import Metrics
from llmjp_operator.act.work_queue import FIRST_PAUSE_S, WorkQueue
from llmjp_operator.api import Status, decode
from llmjp_operator.errors import OperatorError
from llmjp_operator.names import GROUP, KIND, MANAGED_BY, OPERATOR, RETRY
from llmjp_operator.observe.cache import Key, ObjectCache
from llmjp_operator.observe.parsing import parse_job
from llmjp_operator.observe.snapshot import ObjectRef, ObservedJob
from llmjp_operator.report.summary import find_message
from llmjp_operator.settings import Settings
from tests.operator.factories import NOW, SETTINGS, TORCH
from tests.operator.fake_api_server import NAMESPACE, FakeApiServer, Killed, WatchEvent
from tests.operator.fake_workloads import FakeWorkloads, Script
from tests.operator.model_bodies import Object, make_model_body

T = TypeVar("T")

EVENTS_OF = {KIND, *KINDS}
"""Kinds that are watched."""


@dataclass
class Operator:
    """The memory of an operator's process."""

    controller: Controller
    queue: WorkQueue[Key]

    def take_due(self) -> list[Key]:
        """Return the models that were queued, and empty the queue."""
        due = sorted(self.queue._due)
        for key in due:
            self.queue.forget(key)
        return due


class Simulation:
    """One namespace with one operator, and a model `a` to begin with."""

    def __init__(
        self,
        changes: Object | None = None,
        *,
        script: Script = succeed,
        settings: Settings = SETTINGS,
    ) -> None:
        self.now = NOW
        self.server = FakeApiServer(clock=lambda: self.now)
        self.workloads = FakeWorkloads(self.server, script)
        self.errors: list[OperatorError] = []
        """Errors of reconciles that failed, in order."""
        self.down_s = 0.0
        """How long it takes to start an operator again that was killed; Jobs go on meanwhile."""
        self.watches_are_late = False
        """No watch event arrives."""
        self.settings = settings
        self.edit(changes)
        self.restart()

    def fork(self, *, kill_after: int | None = None) -> Simulation:
        """Return the same namespace with a new operator."""
        other = Simulation(settings=self.settings)
        other.now, other.down_s = self.now, self.down_s
        other.server = self.server.fork()
        other.server.clock = lambda: other.now
        other.server.kill_after = kill_after
        other.workloads = FakeWorkloads(other.server, self.workloads.script)
        other.restart()
        return other

    def annotate(self, **annotations: str) -> None:
        """Give the model annotations of ours, by the part of their name after the slash."""
        body = self.objects[ObjectRef(KIND, "a")]
        named = {f"{GROUP}/{k.replace('_', '-')}": value for k, value in annotations.items()}
        self.server.put({**body, "metadata": {**body["metadata"], "annotations": named}})

    def edit(self, changes: Object | None = None, name: str = "a", *, retry: str = "") -> None:
        """Apply a model, as a user would: the smallest of backend torch, with changes."""
        body = make_model_body({**TORCH, **(changes or {})}, name)
        if retry:
            body["metadata"]["annotations"] = {RETRY: retry}
        known = self.objects.get(ObjectRef(KIND, name))
        self.server.put(body if known is None else {**body, "status": known.get("status", {})})

    def restart(self, settings: Settings | None = None) -> None:
        """Start an operator that knows nothing: it lists what is there."""
        self.settings = settings or self.settings
        _run(self._start())

    def step(self, name: str = "a") -> float | None:
        """Reconcile a model once, due or not; return when it asks for the next time."""
        return _run(self._step((NAMESPACE, name)))

    def settle(self, limit: int = 400) -> None:
        """Go on until nothing is due any more."""
        _run(self._settle(None, limit))

    def run_for(self, seconds: float) -> None:
        """Go on for so long."""
        _run(self._settle(self.now + seconds, 10_000))

    async def _start(self) -> None:
        cache = ObjectCache()
        controller = Controller(
            cache,
            self.server,
            self.settings,
            Metrics(cache),
            wall_time=lambda: self.now,
            monotonic_time=lambda: self.now,
        )
        queue: WorkQueue[Key] = WorkQueue(controller.reconcile, lambda *_: None)
        self.operator = Operator(controller, queue)
        self._timers: dict[Key, float] = {}
        self.server.watched.clear()
        await fill_cache(cache, self.server, queue, kinds=tuple(KINDS), namespaces=(), wait=_never)

    async def _step(self, key: Key) -> float | None:
        await self._deliver()
        self._timers.pop(key, None)
        try:
            after = await self.operator.controller.reconcile(key)
        except Killed:
            if self.down_s:
                self.now += self.down_s
                self.workloads.advance(self.now)
            await self._start()
            return None
        except OperatorError as exc:
            self.errors.append(exc)
            after = FIRST_PAUSE_S
        if after is not None:
            self._timers[key] = self.now + after
        return after

    async def _settle(self, until: float | None, limit: int) -> None:
        for _ in range(limit):
            await self._deliver()
            due = {key for key, at in self._timers.items() if at <= self.now}
            for key in sorted(due.union(self.operator.take_due())):
                await self._step(key)
            if self.operator.queue.depth:
                continue  # it was killed
            self.workloads.advance(self.now)
            if self.server.watched or self.operator.queue.depth:
                continue
            following = min(self._timers.values(), default=until)
            if following is None:
                return
            if until is not None and following >= until:
                self.now = until
                return
            self.now = max(self.now, following)
        raise AssertionError(f"not settled: {self.status}")

    async def _deliver(self) -> None:
        """Hand what happened to the operator's handlers, as kopf does."""
        if self.watches_are_late:
            return
        cache, queue = self.operator.controller.cache, self.operator.queue
        watched, self.server.watched = self.server.watched, []
        for event in watched:
            if not _is_watched(event):
                continue
            raw = {"type": event.type, "object": event.body}
            if event.kind == KIND:
                await make_model_handler(cache, queue)(event=raw)
            else:
                await make_object_handler(cache, queue, event.kind)(event=raw)

    @property
    def objects(self) -> dict[ObjectRef, Object]:
        return self.server.stored

    @property
    def status(self) -> Status:
        return self.status_of("a")

    def status_of(self, name: str) -> Status:
        body = self.objects[ObjectRef(KIND, name)]
        return decode(Status, body.get("status", {}), "status", strict=False)

    @property
    def phase(self) -> str:
        return str(self.status.phase)

    def reason(self, condition: str, name: str = "a") -> str:
        return next(c.reason for c in self.status_of(name).conditions if c.type == condition)

    def message(self, condition: str) -> str:
        """Return the message of a condition, which another with the same reason may tell."""
        found = next(c for c in self.status.conditions if c.type == condition)
        return find_message(found, self.status)

    @property
    def jobs(self) -> list[ObservedJob]:
        """The Jobs that are there."""
        return [parse_job(body) for ref, body in self.objects.items() if ref.kind == "Job"]

    def all_jobs(self, component: str) -> list[Object]:
        """Return all Jobs that were ever made for something, in order."""
        return [j for j in self.workloads.jobs.values() if parse_job(j).component == component]

    @property
    def writes(self) -> int:
        return len(self.server.writes)


def _is_watched(event: WatchEvent) -> bool:
    labels = event.body["metadata"].get("labels") or {}
    ours = event.kind == KIND or labels.get(MANAGED_BY) == OPERATOR
    return ours and event.kind in EVENTS_OF


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


async def _never(exc: OperatorError) -> None:
    raise exc
