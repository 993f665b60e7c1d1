"""An API server in memory, with one namespace: server-side apply, versions and watch events.

A stand-in for `llmjp_operator.act.api_client.Cluster`. Stored objects are never changed in place:
readers share them, and every change stores a new one.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from llmjp_operator.errors import ApiRefused
from llmjp_operator.names import FIELD_MANAGER
from llmjp_operator.observe.snapshot import ObjectRef
from tests.operator.model_bodies import Object, merge_patch

NAMESPACE = "ns"
_UNVERSIONED = ("creationTimestamp", "resourceVersion", "generation", "uid", "managedFields")


class Killed(Exception):
    """The operator is killed: its call reached the API server, and it never saw the answer."""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One event of a watch."""

    type: str
    """ADDED, MODIFIED or DELETED."""
    kind: str
    body: Object


@dataclass
class FakeApiServer:
    """Stores objects by kind and name."""

    stored: dict[ObjectRef, Object] = field(default_factory=dict)
    watched: list[WatchEvent] = field(default_factory=list)
    """Not delivered yet."""
    writes: list[str] = field(default_factory=list)
    """Verb, kind and name of every write of the operator."""
    kill_after: int | None = None
    """The operator is killed by the write after so many."""
    kill_always: bool = False
    """The operator is killed by each of its writes."""
    refuse: Callable[[Object], ApiRefused | None] = lambda _wanted: None
    """Judges what is applied; status too."""
    admit: Callable[[Object], Object] = lambda wanted: wanted
    """Changes what is applied, as an admission webhook would."""
    node_list: list[Object] | None = None
    """None: nodes may not be listed."""
    logs: dict[str, str] = field(default_factory=dict)
    """By pod."""
    log_reads: list[str] = field(default_factory=list)
    """Pods whose logs were read, in order."""
    events: list[Object] = field(default_factory=list)
    """Posted by the operator, in order."""
    told: list[Object] = field(default_factory=list)
    """Events of Kubernetes' own components."""
    event_reads: list[str] = field(default_factory=list)
    """uids of the objects whose events were listed, in order."""
    clock: Callable[[], float] | None = None
    """Seconds since 1970."""
    _applied: dict[ObjectRef, dict[str, Object]] = field(default_factory=dict)
    """By object and field manager, what it applied last."""
    _version: int = 0
    """Version of the last change; numbers uids as well."""

    async def apply(
        self, wanted: Object, *, manager: str = FIELD_MANAGER, status: bool = False
    ) -> Object:
        """See `Cluster`."""
        ref = _ref(wanted)
        refusal = self.refuse(wanted)
        if status and ref not in self.stored:
            refusal = ApiRefused(404, f"PATCH {ref.name}/status", "not found")
        refusal = refusal or self._check_preconditions(ref, wanted)
        if refusal is not None:
            raise refusal
        wanted = {**wanted, "metadata": _drop(wanted["metadata"], "uid", "resourceVersion")}
        if status:
            new = self.put({**self.stored[ref], "status": wanted["status"]})
        else:
            new = self._merge(ref, self.admit(wanted), manager)
        self._wrote("status" if status else "apply", ref)
        return new

    async def delete(self, kind: str, namespace: str, name: str, uid: str = "") -> None:
        """See `Cluster`."""
        assert namespace == NAMESPACE
        ref = ObjectRef(kind, name)
        found = self.stored.get(ref)
        if found is not None and (not uid or found["metadata"]["uid"] == uid):
            self.discard(ref)
        self._wrote("remove", ref)

    async def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """See `Cluster`."""
        assert namespace == NAMESPACE
        return self.stored.get(ObjectRef(kind, name))

    async def list_nodes(self) -> list[Object] | None:
        """See `Cluster`."""
        return self.node_list

    async def list_metadata(
        self, kind: str, namespace: str, selector: str
    ) -> tuple[int, list[Object]]:
        """See `Cluster`."""
        found = [body async for body in self.list_objects(kind, namespace, selector, 0)]
        return self._version, [{"metadata": body["metadata"]} for body in found]

    async def read_log(self, namespace: str, pod: str, container: str, lines: int) -> str:
        """See `Cluster`."""
        assert (namespace, container) == (NAMESPACE, "builder")
        self.log_reads.append(pod)
        return "\n".join(self.logs.get(pod, "").splitlines()[-lines:])

    async def list_events(self, namespace: str, uid: str) -> list[Object]:
        """See `Cluster`."""
        assert namespace == NAMESPACE
        self.event_reads.append(uid)
        return [e for e in self.told if e["involvedObject"]["uid"] == uid]

    async def post_event(self, event: Object) -> None:
        """See `Cluster`."""
        self.events.append(event)
        self._wrote("tell", ObjectRef("Event", event["reason"]))

    async def list_objects(
        self, kind: str, namespace: str, selector: str, chunk: int
    ) -> AsyncIterator[Object]:
        """See `listing.Lists`."""
        del namespace, chunk
        label, _, value = selector.partition("=")
        for ref, body in sorted(self.stored.items()):
            labels = body["metadata"].get("labels") or {}
            if ref.kind == kind and (not label or labels.get(label) == value):
                yield body

    def fork(self) -> FakeApiServer:
        """Return another API server with the same objects, that nobody has written to."""
        return FakeApiServer(
            stored=dict(self.stored),
            node_list=self.node_list,
            _applied={ref: dict(applied) for ref, applied in self._applied.items()},
            _version=self._version,
        )

    def put(self, body: Object) -> Object:
        """Store an object as somebody else than the operator writes it: a user, a controller."""
        ref = _ref(body)
        before = self.stored.get(ref)
        given = {k: v for k, v in body["metadata"].items() if k not in _UNVERSIONED}
        metadata = {
            "namespace": NAMESPACE,
            **given,
            "uid": f"uid-{self._version + 1}" if before is None else before["metadata"]["uid"],
            "generation": _generation(before, body),
            **self._stamp(before),
            "managedFields": [
                _managed(manager, applied) for manager, applied in self._of(ref).items()
            ],
        }
        new = {**body, "metadata": metadata}
        if before is not None and new == _without_version(before):
            return before
        metadata["resourceVersion"] = self._next_version()
        self.stored[ref] = new
        self.watched.append(WatchEvent("MODIFIED" if before else "ADDED", ref.kind, new))
        return new

    def _stamp(self, before: Object | None) -> Object:
        """Return the time of creation, if there is a clock."""
        if before is not None:
            return _only(before["metadata"], "creationTimestamp")
        if self.clock is None:
            return {}
        now = datetime.fromtimestamp(self.clock(), UTC)
        return {"creationTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ")}

    def discard(self, ref: ObjectRef) -> None:
        """Delete an object, and whatever has no other owner."""
        gone = self.stored.pop(ref)
        self._applied.pop(ref, None)
        metadata = {**gone["metadata"], "resourceVersion": self._next_version()}
        self.watched.append(WatchEvent("DELETED", ref.kind, {**gone, "metadata": metadata}))
        for owned, body in list(self.stored.items()):
            owners = {o["uid"] for o in body["metadata"].get("ownerReferences", ())}
            if owned in self.stored and gone["metadata"]["uid"] in owners:
                self._orphan(owned, owners)

    def _orphan(self, ref: ObjectRef, owners: set[str]) -> None:
        """Collect an object whose last owner went."""
        if not owners & {body["metadata"]["uid"] for body in self.stored.values()}:
            self.discard(ref)

    def _merge(self, ref: ObjectRef, wanted: Object, manager: str) -> Object:
        """Store what all managers applied last, and the fields that nobody applied."""
        applied = self._applied.setdefault(ref, {})
        before = self.stored.get(ref)
        if ref.kind == "Job" and before is not None and "spec" in wanted:
            assert wanted["spec"] == before["spec"], f"{ref.name}: a Job's spec is immutable"
        applied[manager] = wanted
        whole = dict(wanted)
        if len(applied) > 1:
            whole = functools.reduce(merge_patch, applied.values())
        whole["metadata"] = dict(whole["metadata"])
        owners = {
            owner["uid"]: owner
            for config in applied.values()
            for owner in config["metadata"].get("ownerReferences", ())
        }
        if owners:
            whole["metadata"]["ownerReferences"] = [owners[uid] for uid in sorted(owners)]
        if before is not None and "status" in before:
            whole["status"] = before["status"]
        return self.put(whole)

    def _check_preconditions(self, ref: ObjectRef, wanted: Object) -> ApiRefused | None:
        """Refuse as the API server does: tests/operator/act/test_ownership_applied.py."""
        before = self.stored.get(ref)
        uid, version = (wanted["metadata"].get(name) for name in ("uid", "resourceVersion"))
        if before is None:
            return ApiRefused(409, f"PATCH {ref}", "no existing object was found") if uid else None
        if uid and before["metadata"]["uid"] != uid:
            return ApiRefused(422, f"PATCH {ref}", "metadata.uid: field is immutable")
        if version and before["metadata"]["resourceVersion"] != version:
            return ApiRefused(409, f"PATCH {ref}", "the object has been modified")
        return None

    def _next_version(self) -> str:
        self._version += 1
        return str(self._version)

    def _of(self, ref: ObjectRef) -> dict[str, Object]:
        return self._applied.get(ref, {})

    def _wrote(self, verb: str, ref: ObjectRef) -> None:
        self.writes.append(f"{verb} {ref.kind} {ref.name}")
        if self.kill_always or len(self.writes) - 1 == self.kill_after:
            raise Killed


def _only(value: Object, *names: str) -> Object:
    return {name: item for name, item in value.items() if name in names}


def _drop(value: Object, *names: str) -> Object:
    return {name: item for name, item in value.items() if name not in names}


def _ref(body: Object) -> ObjectRef:
    namespace = body["metadata"].get("namespace", NAMESPACE)
    assert namespace == NAMESPACE, f"{namespace} is not the namespace"
    return ObjectRef(body["kind"], body["metadata"]["name"])


def _generation(before: Object | None, body: Object) -> int:
    """Return the generation: it counts the changes of everything but metadata and status."""
    if before is None:
        return 1
    known: int = before["metadata"]["generation"]
    return known + (_spec(before) != _spec(body))


def _spec(body: Object) -> Object:
    return {k: v for k, v in body.items() if k not in {"metadata", "status"}}


def _without_version(body: Object) -> Object:
    metadata = {k: v for k, v in body["metadata"].items() if k != "resourceVersion"}
    return {**body, "metadata": metadata}


def _managed(manager: str, applied: Object) -> Object:
    """Return an entry of `metadata.managedFields`."""
    config = {k: v for k, v in applied.items() if k not in {"apiVersion", "kind"}}
    identity = {"name", "namespace"}
    config["metadata"] = {k: v for k, v in applied["metadata"].items() if k not in identity}
    return {
        "manager": manager,
        "operation": "Apply",
        "apiVersion": applied["apiVersion"],
        "fieldsType": "FieldsV1",
        "fieldsV1": _fields(config),
    }


def _fields(value: Any) -> Object:
    """Return the names of all fields; lists count as one field, but for owners."""
    if not isinstance(value, dict):
        return {}
    fields = {f"f:{name}": _fields(item) for name, item in value.items()}
    if "ownerReferences" in value:
        fields["f:ownerReferences"] = {
            f'k:{{"uid":"{owner["uid"]}"}}': {} for owner in value["ownerReferences"]
        }
    return fields
