"""A cluster in memory, with controllers and kubelets that do their part at once. A stand-in."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from e2e.played import ended, ready, well
from llmjp_operator.api import Model, Status
from llmjp_operator.names import KEY_LABEL, record_name
from llmjp_operator.observe.managed_fields import digest_of
from llmjp_operator.observe.parsing import claim_fact, deployment_fact, job_fact, pod_fact
from llmjp_operator.observe.snapshot import ObjectRef, ObservedJob, Snapshot
from llmjp_operator.observe.store_record import StoreRecord, parse_record
from llmjp_operator.plan import ReconcilePlan, reconcile
from llmjp_operator.render.metadata import claim_name
from llmjp_operator.render.storage import record
from llmjp_operator.report.notices import Notice
from tests.operator.objects import Object
from tests.operator.scenes import NOW, SETTINGS

Script = Callable[[Object], Object | None]


class Killed(Exception):
    """The operator was killed after a write."""


@dataclass
class World:
    """One namespace with one model."""

    model: Model
    script: Script = well
    settings: Any = SETTINGS
    now: float = NOW
    objects: dict[ObjectRef, Object] = field(default_factory=dict)
    applied: dict[ObjectRef, str] = field(default_factory=dict)
    told: list[Notice] = field(default_factory=list)
    writes: int = 0
    kill_after: int | None = None
    """After so many writes the operator is killed, once."""
    _uids: Iterator[int] = field(default_factory=itertools.count)
    built: list[str] = field(default_factory=list)
    """Names of all build Jobs ever made."""
    collected: list[list[str]] = field(default_factory=list)
    """Command lines of all Jobs ever made that remove artefacts."""

    def facts(self) -> Snapshot:
        bodies = list(self.objects.items())
        deployment = self.objects.get(ObjectRef("Deployment", self.model.name))
        stored = self.objects.get(ObjectRef("ConfigMap", record_name(claim_name(self.model))))
        return Snapshot(
            now=self.now,
            sharing=(self.model,),
            record=StoreRecord() if stored is None else parse_record(stored["data"]),
            jobs={r.name: job_fact(b) for r, b in bodies if r.kind == "Job"},
            pods=tuple(pod_fact(b) for r, b in bodies if r.kind == "Pod"),
            deployment=None if deployment is None else deployment_fact(deployment),
            claims={r.name: claim_fact(b) for r, b in bodies if r.kind == "PersistentVolumeClaim"},
            live={r: d for r, d in self.applied.items() if r.kind != "Pod"},
        )

    def step(self) -> ReconcilePlan:
        """One reconcile, carried out as the controller does."""
        done = reconcile(self.model, self.facts(), self.settings)
        for removal in done.first:
            self._remove(removal.ref)
        objects = list(done.apply)
        if done.record is not None:
            objects.insert(0, record(self.model, done.record))
        for wanted in objects:
            self._apply(wanted)
        for removal in done.remove:
            self._remove(removal.ref)
        if done.status != self.model.status:
            self._wrote()
            self.model = replace(self.model, status=done.status)
        self.told += done.notices
        return done

    def settle(self, limit: int = 60) -> None:
        """Until nothing is written and nothing happens any more."""
        for _ in range(limit):
            before, last = self.writes, copy.deepcopy(self.objects)
            try:
                done = self.step()
            except Killed:
                continue
            self._play()
            if self.writes == before and self.objects == last:
                if done.requeue_after_s is None:
                    return
                self.now += done.requeue_after_s
        raise AssertionError(f"not settled: {self.model.status}")

    def change(self, model: Model) -> None:
        """The spec is edited."""
        self.model = replace(model, status=self.model.status, generation=self.model.generation + 1)

    def _wrote(self) -> None:
        self.writes += 1
        if self.kill_after is not None and self.writes > self.kill_after:
            self.kill_after = None
            raise Killed

    def _apply(self, wanted: Object) -> None:
        ref = ObjectRef(wanted["kind"], wanted["metadata"]["name"])
        before = self.objects.get(ref)
        body = copy.deepcopy(wanted)
        if before is None:
            body["metadata"]["uid"] = f"uid-{next(self._uids)}"
            body["metadata"]["generation"] = 1
            if ref.kind == "Job" and ref.name.startswith("ljm-build"):
                self.built.append(ref.name)
            if ref.kind == "Job" and ref.name.startswith("ljm-collect"):
                self.collected.append(wanted["spec"]["template"]["spec"]["containers"][0]["args"])
        else:
            assert ref.kind != "Job", "a Job is never changed"
            body["metadata"]["uid"] = before["metadata"]["uid"]
            body["metadata"]["generation"] = before["metadata"]["generation"] + 1
            body["status"] = before.get("status", {})
        self.objects[ref], self.applied[ref] = body, digest_of(wanted)
        self._wrote()

    def _remove(self, ref: ObjectRef) -> None:
        gone = self.objects.pop(ref, None)
        self.applied.pop(ref, None)
        if gone is not None and ref.kind == "Job":
            for pod in [r for r, b in self.objects.items() if _of(b, gone)]:
                del self.objects[pod]
        self._wrote()

    def _play(self) -> None:
        for ref, body in list(self.objects.items()):
            if ref.kind == "Job":
                self._play_job(ref, body)
            if ref.kind == "Deployment":
                self._play_deployment(ref, body)

    def _play_job(self, ref: ObjectRef, job: Object) -> None:
        if job_fact(job).finished:
            return
        pod = self._pod(ref, job, "batch.kubernetes.io/controller-uid")
        status = self.script(pod)
        if status is None:
            return
        pod["status"] = status
        kind = {"Succeeded": "Complete", "Failed": "Failed"}[status["phase"]]
        job["status"] = {"conditions": [{"type": kind, "status": "True"}]}

    def _play_deployment(self, ref: ObjectRef, made: Object) -> None:
        """The new pod starts; when it is ready the old one goes."""
        replicas = made["spec"]["replicas"]
        new = self._pod(
            ObjectRef(ref.kind, f"{ref.name}-{made['metadata']['annotations'][POD]}"), made
        )
        new["status"] = self.script(new) or {"phase": "Pending"}
        works = pod_fact(new).ready
        olds = [
            r
            for r, b in self.objects.items()
            if r.kind == "Pod" and KEY_LABEL in b["metadata"]["labels"] and b is not new
        ]
        if works or made["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0:
            for old in olds:
                del self.objects[old]
            olds = []
        made["status"] = {
            "observedGeneration": made["metadata"]["generation"],
            "replicas": replicas + len(olds),
            "updatedReplicas": replicas,
            "readyReplicas": replicas * works + len(olds),
            "availableReplicas": replicas * works + len(olds),
            "conditions": [] if works else [STALLED],
        }

    def _pod(self, ref: ObjectRef, owner: Object, uid_label: str = "") -> Object:
        template = owner["spec"]["template"]
        name = ObjectRef("Pod", f"{ref.name}-0")
        found = self.objects.get(name)
        labels = dict(template["metadata"]["labels"])
        if uid_label:
            labels[uid_label] = owner["metadata"]["uid"]
        if found is None or found["metadata"]["labels"] != labels:
            found = copy.deepcopy(template)
            found["metadata"] |= {"name": name.name, "labels": labels}
            self.objects[name] = found
        return found

    @property
    def job_facts(self) -> list[ObservedJob]:
        return [job_fact(b) for r, b in self.objects.items() if r.kind == "Job"]

    @property
    def status(self) -> Status:
        return self.model.status

    @property
    def phase(self) -> str:
        return str(self.model.status.phase)

    def reason(self, condition: str) -> str:
        return next(c.reason for c in self.status.conditions if c.type == condition)


POD = "serving.llmjp.dev/pods"
STALLED = {
    "type": "Progressing",
    "status": "False",
    "reason": "ProgressDeadlineExceeded",
    "message": "it took too long",
}


def _of(pod: Object, job: Object) -> bool:
    uid = pod.get("metadata", {}).get("labels", {}).get("batch.kubernetes.io/controller-uid")
    return bool(uid == job["metadata"]["uid"])


def only(component: str, status: Object) -> Script:
    """Everything goes well but one kind of pod."""

    def script(pod: Object) -> Object | None:
        if pod["metadata"]["labels"]["app.kubernetes.io/component"] == component:
            return status
        return well(pod)

    return script


__all__ = ["Killed", "World", "ended", "only", "ready", "well"]
