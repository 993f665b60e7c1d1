"""In-memory cache of watched objects, reduced to what reconciling needs.

Watch handlers write, the controller reads; nothing here waits or calls the API server. Objects are
indexed by namespace and the label of their model or store.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from llmjp_operator.api import Model, Status, parse_model
from llmjp_operator.errors import InvalidModel
from llmjp_operator.names import (
    FIELD_MANAGER,
    MODEL_LABEL,
    STORE_LABEL,
    make_record_name,
    make_store_id,
)
from llmjp_operator.observe.managed_fields import compute_object_digest, extract_owned_fields
from llmjp_operator.observe.ownership import Ownership, is_ours, parse_ownership
from llmjp_operator.observe.parsing import parse_claim, parse_deployment, parse_job, parse_pod
from llmjp_operator.observe.revision import Revision, parse_revision
from llmjp_operator.observe.snapshot import (
    ObjectRef,
    ObservedClaim,
    ObservedDeployment,
    ObservedJob,
    ObservedPod,
)
from llmjp_operator.observe.store_record import StoreRecord, parse_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Object = dict[str, Any]
Key = tuple[str, str]
"""Namespace and name."""
Group = tuple[str, str, str]
"""Namespace, label and its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidResource:
    """A model whose spec this operator cannot parse."""

    name: str
    namespace: str
    uid: str
    generation: int
    message: str
    status: Object
    """The status as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedObject:
    """One object of ours."""

    uid: str
    version: int
    """Resource version, to tell older from newer."""
    digest: str
    """Digest of the fields that the operator owns; empty for pods."""
    value: Observed | None
    groups: tuple[Group, ...]
    whose: Ownership
    from_watch: bool = False
    """Whether a list or a watch has shown it; otherwise it is the response to a call of ours."""


Observed = ObservedJob | ObservedPod | ObservedDeployment | ObservedClaim | Revision | StoreRecord
"""What is kept of an object."""
GROUPS: Final = (MODEL_LABEL, STORE_LABEL)


@dataclass(slots=True)
class ObjectCache:
    """All models, and all objects that carry our labels."""

    models: dict[Key, Model | InvalidResource] = field(default_factory=dict)
    _versions: dict[Key, tuple[str, str]] = field(default_factory=dict)
    """Latest uid and resource version of every model."""
    _objects: dict[tuple[str, str, str], CachedObject] = field(default_factory=dict)
    """By kind, namespace and name."""
    _groups: defaultdict[Group, set[tuple[str, str, str]]] = field(
        default_factory=lambda: defaultdict(set)
    )
    _stores: defaultdict[tuple[str, str], set[Key]] = field(
        default_factory=lambda: defaultdict(set)
    )
    """Models by namespace and `make_store_id`."""
    _rolling: set[Key] = field(default_factory=set)
    """Models whose pods are being replaced."""
    writing_rollouts: set[Key] = field(default_factory=set)
    """Models whose Deployment is written just now."""
    _taken: dict[Key, tuple[tuple[str, int], set[ObjectRef]]] = field(default_factory=dict)
    """By model: its uid and generation, and objects of others that have the names of its own."""

    def put_model(self, body: Object) -> bool:
        """Store a model; return False if this version was stored before."""
        metadata = body["metadata"]
        key = (metadata["namespace"], metadata["name"])
        version = metadata.get("uid", ""), metadata.get("resourceVersion", "")
        if version[1] and self._versions.get(key) == version:
            return False
        self._versions[key] = version
        self._forget_store(key)
        try:
            model = parse_model(body)
        except InvalidModel as exc:
            self.models[key] = InvalidResource(
                name=key[1],
                namespace=key[0],
                uid=metadata.get("uid", ""),
                generation=metadata.get("generation", 0),
                message=str(exc),
                status=body.get("status") or {},
            )
            return True
        self.models[key] = model
        self._stores[_get_store(model)].add(key)
        return True

    def remove_model(self, namespace: str, name: str) -> list[Key]:
        """Remove a model; return the models that shared its store."""
        key = (namespace, name)
        model = self.models.get(key)
        self._forget_store(key)
        self._versions.pop(key, None)
        self._taken.pop(key, None)
        self.models.pop(key, None)
        return self.list_models_of_store(model) if isinstance(model, Model) else []

    def _forget_store(self, key: Key) -> None:
        before = self.models.get(key)
        if isinstance(before, Model):
            self._stores[_get_store(before)].discard(key)
            if not self._stores[_get_store(before)]:
                del self._stores[_get_store(before)]

    def list_models_of_store(self, model: Model) -> list[Key]:
        """Return the models on the same store, by name."""
        return sorted(self._stores.get(_get_store(model), ()))

    def put(self, kind: str, body: Object, *, from_watch: bool = False) -> bool:
        """Store an object of ours.

        Returns:
            False if a list or a watch has shown this version before.
        """
        metadata = body["metadata"]
        where = (kind, metadata.get("namespace", ""), metadata["name"])
        version = int(metadata.get("resourceVersion") or 0)
        known = self._objects.get(where)
        if known is not None and known.uid == metadata.get("uid") and known.version >= version > 0:
            if known.version == version and from_watch and not known.from_watch:
                self._objects[where] = replace(known, from_watch=True)
            # Otherwise the response to a call of ours was newer.
            return not (known.version == version and known.from_watch)
        self._drop(where)
        labels = metadata.get("labels") or {}
        groups = tuple((where[1], name, labels[name]) for name in GROUPS if name in labels)
        applied = {} if kind == "Pod" else extract_owned_fields(body, FIELD_MANAGER)
        self._objects[where] = CachedObject(
            uid=metadata.get("uid", ""),
            version=version,
            digest="" if kind == "Pod" else compute_object_digest(applied),
            value=_parse_object(kind, body, applied),
            groups=groups,
            whose=parse_ownership(body),
            from_watch=from_watch,
        )
        for group in groups:
            self._groups[group].add(where)
        value = self._objects[where].value
        if isinstance(value, ObservedDeployment) and value.rolling:
            self._rolling.add((where[1], where[2]))
        return True

    def get_digest(self, kind: str, namespace: str, name: str) -> str:
        """Return the digest of an object's managed fields; empty if it is unknown."""
        seen = self._objects.get((kind, namespace, name))
        return "" if seen is None else seen.digest

    def put_status(self, model: Model, status: Status) -> None:
        """Store a status that was written, before the watch shows it."""
        key = (model.namespace, model.name)
        known = self.models.get(key)
        if isinstance(known, Model) and known.uid == model.uid:
            self.models[key] = replace(known, status=status)

    def remove(self, kind: str, namespace: str, name: str, uid: str = "") -> None:
        """Remove an object of ours, if it still has that uid."""
        where = (kind, namespace, name)
        known = self._objects.get(where)
        if known is not None and (not uid or known.uid == uid):
            self._drop(where)

    def remove_missing(
        self, kind: str, namespaces: tuple[str, ...], listed: dict[Key, str], version: int
    ) -> list[tuple[str, CachedObject]]:
        """Remove objects that a newer list lacks; return them with their namespaces.

        Args:
            kind: kind of the objects.
            namespaces: namespaces that were listed; empty for all.
            listed: uids by namespace and name.
            version: resource version of the list; later objects are kept.
        """
        gone = []
        for where, one in list(self._objects.items()):
            key = (where[1], where[2])
            asked = where[0] == kind and (not namespaces or where[1] in namespaces)
            if asked and one.version <= version and listed.get(key) != one.uid:
                self._drop(where)
                gone.append((where[1], one))
        return gone

    def _drop(self, where: tuple[str, str, str]) -> None:
        known = self._objects.pop(where, None)
        if where[0] == "Deployment":
            self._rolling.discard((where[1], where[2]))
        for group in known.groups if known else ():
            self._groups[group].discard(where)
            if not self._groups[group]:
                del self._groups[group]

    def find_models(self, namespace: str, labels: dict[str, str]) -> set[Key]:
        """Return the models that an object with these labels concerns."""
        found = set()
        if (name := labels.get(MODEL_LABEL)) and (namespace, name) in self.models:
            found.add((namespace, name))
        if store := labels.get(STORE_LABEL):
            found |= self._stores.get((namespace, store), set())
        return found

    def get_record(self, model: Model) -> StoreRecord:
        """Return the record of a model's store; an empty one if there is none of ours."""
        ref = ObjectRef("ConfigMap", make_record_name(model.store_claim))
        seen = self.find_object(model, ref)
        return (
            seen.value
            if seen is not None and isinstance(seen.value, StoreRecord)
            else StoreRecord()
        )

    def find_object(self, model: Model, ref: ObjectRef) -> CachedObject | None:
        """Return an object that is the model's or its store's; None if it is not."""
        seen = self._objects.get((ref.kind, model.namespace, ref.name))
        if seen is None or not is_ours(ref, seen.whose, model, self._list_sharing_uids(model)):
            return None
        return seen

    def count_rolling(self, model: Model) -> int:
        """Return how many other models are being rolled out, or are about to be."""
        return len((self._rolling | self.writing_rollouts) - {(model.namespace, model.name)})

    def list_names(self, namespace: str) -> frozenset[str]:
        """Return the names of all models of a namespace."""
        return frozenset(name for where, name in self.models if where == namespace)

    def list_model_uids(self) -> frozenset[str]:
        """Return the uids of all models."""
        return frozenset(model.uid for model in self.models.values())

    def note_taken(self, model: Model, ref: ObjectRef) -> None:
        """Note that an object of somebody else has a name that the model's object would have."""
        known = self.list_taken(model)
        self._taken[model.namespace, model.name] = (
            (model.uid, model.generation),
            known | {ref},
        )

    def forget_taken(self, model: Model, ref: ObjectRef) -> None:
        """Forget that a name was taken."""
        _, taken = self._taken.get((model.namespace, model.name), ((), set()))
        taken.discard(ref)

    def list_taken(self, model: Model) -> set[ObjectRef]:
        """Return what has been noted; an edited model may want other names."""
        version, taken = self._taken.get((model.namespace, model.name), (("", 0), set()))
        return set(taken) if version == (model.uid, model.generation) else set()

    def list_objects(self, model: Model) -> Iterator[tuple[ObjectRef, CachedObject]]:
        """Yield every object that is the model's or its store's, each once.

        Of pods that is what their labels say: their owners are ReplicaSets, which nobody watches.
        """
        groups = ((MODEL_LABEL, model.name), (STORE_LABEL, _get_store(model)[1]))
        found: set[tuple[str, str, str]] = set()
        for label, value in groups:
            found |= self._groups.get((model.namespace, label, value), set())
        sharing = self._list_sharing_uids(model)
        for where in sorted(found):
            ref, seen = ObjectRef(where[0], where[2]), self._objects[where]
            if ref.kind == "Pod" or is_ours(ref, seen.whose, model, sharing):
                yield ref, seen

    def _list_sharing_uids(self, model: Model) -> frozenset[str]:
        return frozenset(self.models[key].uid for key in self.list_models_of_store(model))


def _get_store(model: Model) -> tuple[str, str]:
    return model.namespace, make_store_id(model.store_claim)


def _parse_object(kind: str, body: Object, applied: Object) -> Observed | None:
    if kind == "Deployment":
        return parse_deployment(body, applied)
    parse = _PARSERS.get(kind)
    return None if parse is None else parse(body)


_PARSERS: Final[Mapping[str, Callable[[Object], Observed | None]]] = {
    "ConfigMap": lambda body: parse_record(body.get("data") or {}),
    "ControllerRevision": parse_revision,
    "Job": parse_job,
    "PersistentVolumeClaim": parse_claim,
    "Pod": parse_pod,
}
"""What is kept of an object, by kind; of others only the digest."""
