"""Version N: what the operator at commit 5cb759d wrote, in every phase of every sample.

The data is `tests/fixtures/version_n/operator`, and is never made again. A phase is a list of
steps; the last step is where the phase came to rest. An upgrade test takes a rested step, gives its
`model` and `cluster` to an API server, and starts today's operator on them.

Everything here is plain JSON, except `reconcile_step`: the only place that names today's code.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from llmjp_builder.contracts.spec import Progress
from llmjp_operator.api import encode, parse_model
from llmjp_operator.observe.managed_fields import compute_object_digest
from llmjp_operator.observe.parsing import (
    parse_claim,
    parse_deployment,
    parse_job,
    parse_node,
    parse_pod,
)
from llmjp_operator.observe.snapshot import CalibrationTexts, ObjectRef, Snapshot
from llmjp_operator.observe.store_record import StoreRecord, parse_record
from llmjp_operator.plan import plan_reconcile
from llmjp_operator.render.storage import render_record
from llmjp_operator.settings import parse_settings
from tests.support.shared import ROOT

Object = dict[str, Any]

FOLDER = ROOT / "tests" / "fixtures" / "version_n" / "operator"
SAMPLES = sorted(path.stem for path in FOLDER.glob("*.json"))
COMPONENT = "app.kubernetes.io/component"
MODEL = "serving.llmjp.dev/model"
STORE = "serving.llmjp.dev/store"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What was there, and what the operator of version N wrote."""

    sample: str
    phase: str
    number: int
    """Counts the steps of the phase, from 0."""
    now: float
    settings: Object
    """`environ`, and `file`: settings.json."""
    model: Object
    """The LlmJpModel, with the status that was written last."""
    others: tuple[Object, ...]
    """Other models on the same store."""
    cluster: tuple[Object, ...]
    """Every other object that is there, as the API server has it (without managedFields). Pods have
    no spec but their node."""
    progress: Object | None
    """What the running build reported last."""
    writes: Object
    """`record`, `apply`, `join`: objects. `first`, `remove`: kind, name and uid. `status`,
    `notices`, `again_after_s`."""

    @property
    def record(self) -> Object:
        """Data of the store's ConfigMap, before this step; empty where there is none."""
        found = (b for b in self.cluster if b["kind"] == "ConfigMap" and labels_of(b).get(STORE))
        return dict(next(found, {"data": {}})["data"])

    @property
    def status(self) -> Object:
        """As it is once this step is written."""
        return dict(self.writes["status"])

    def __str__(self) -> str:
        return f"{self.sample}: {self.phase}[{self.number}]"


@functools.cache
def load_sample(name: str) -> Mapping[str, tuple[Step, ...]]:
    """Read every step of a sample, by phase, in the order in which they happened."""
    document = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    pool = _Pool(document["objects"])
    return {
        phase: tuple(
            _read_step(step, pool, sample=name, phase=phase, number=i)
            for i, step in enumerate(steps)
        )
        for phase, steps in document["phases"].items()
    }


def load_rested(name: str, phase: str) -> Step:
    """Return the step at which a phase came to rest: nothing more is written."""
    return load_sample(name)[phase][-1]


def iterate_rested() -> Iterator[Step]:
    """Yield where each phase of each sample came to rest."""
    for name in SAMPLES:
        for steps in load_sample(name).values():
            yield steps[-1]


@dataclass(frozen=True, slots=True)
class _Pool:
    """Values by digest; large parts of a value are values of their own: {"$": digest}."""

    kept: Object
    whole: Object = field(default_factory=dict)

    def get(self, digest: str | None) -> Any:
        """Return a value with its parts. It is shared: do not change it."""
        if digest is None:
            return None
        if digest not in self.whole:
            self.whole[digest] = self._expand(self.kept[digest])
        return self.whole[digest]

    def _expand(self, value: Any) -> Any:
        if isinstance(value, dict):
            if value.keys() == {"$"}:
                return self.get(value["$"])
            return {name: self._expand(item) for name, item in value.items()}
        return [self._expand(item) for item in value] if isinstance(value, list) else value

    def get_model(self, names: list[str]) -> Object:
        """Return an LlmJpModel with its status."""
        body, status = map(self.get, names)
        return {**body, "status": status}

    def get_live(self, digest: str) -> Object:
        """Return an object with what the API server and controllers added."""
        name, added, status = self.kept[digest]
        body = self.get(name)
        body = {**body, "metadata": body["metadata"] | added}
        return body if status is None else {**body, "status": self.get(status)}


def _read_step(step: Object, pool: _Pool, **where: Any) -> Step:
    writes = step["writes"]
    return Step(
        **where,
        now=step["now"],
        settings=pool.get(step["settings"]),
        model=pool.get_model(step["model"]),
        others=tuple(map(pool.get_model, step["others"])),
        cluster=tuple(map(pool.get_live, pool.get(step["cluster"]))),
        progress=step["progress"],
        writes={
            "record": pool.get(writes.get("record")),
            "apply": [pool.get(digest) for digest in writes.get("apply", ())],
            "join": [pool.get(digest) for digest in writes.get("join", ())],
            "first": writes.get("first", []),
            "remove": writes.get("remove", []),
            "status": pool.get(writes["status"]),
            "notices": [pool.get(digest) for digest in writes.get("notices", ())],
            "again_after_s": writes.get("again_after_s"),
        },
    )


def labels_of(body: Object) -> Object:
    """Return an object's labels."""
    return dict(body["metadata"].get("labels") or {})


def reconcile_step(step: Step) -> Object:
    """Let today's operator decide what version N decided; in the form of `Step.writes`."""
    settings = parse_settings(step.settings["environ"], json.dumps(step.settings["file"]))
    # Version N sent tokens anywhere: today an administrator names a mirror that has one.
    hub = step.model["spec"]["source"].get("huggingFace") or {}
    mirror = urlsplit(hub.get("endpoint") or "")
    named = (*settings.token_hosts, mirror.netloc, f"{mirror.scheme}://{mirror.netloc}")
    settings = replace(settings, token_hosts=named)
    model = parse_model(step.model)
    sharing = [model, *(parse_model(other) for other in step.others)]
    done = plan_reconcile(model, _observe(step, sharing), settings)
    return {
        "record": None if done.record is None else render_record(model, done.record),
        "apply": list(done.apply),
        "join": list(done.add_owners),
        "first": [_removal(r.ref.kind, r.ref.name, r.uid) for r in done.remove_first],
        "remove": [_removal(r.ref.kind, r.ref.name, r.uid) for r in done.remove],
        "status": encode(done.status),
        "notices": [
            {"type": n.type, "reason": n.reason, "message": n.message} for n in done.notices
        ],
        "again_after_s": done.requeue_after_s,
    }


def _removal(kind: str, name: str, uid: str) -> Object:
    return {"kind": kind, "name": name, "uid": uid}


def _observe(step: Step, sharing: list[Any]) -> Snapshot:
    """Do what the controller does with what it watches and reads."""
    name = step.model["metadata"]["name"]
    seen = [b for b in step.cluster if STORE in labels_of(b) or labels_of(b).get(MODEL) == name]
    mine = [b for b in seen if b["kind"] != "Pod" and labels_of(b).get(MODEL) == name]
    of_kind = {
        kind: [b for b in seen if b["kind"] == kind] for kind in ("Job", "Pod", "Deployment")
    }
    nodes = tuple(parse_node(b) for b in step.cluster if b["kind"] == "Node")
    claims = [b for b in step.cluster if b["kind"] == "PersistentVolumeClaim"]
    return Snapshot(
        now=step.now,
        model_names=frozenset(str(model.name) for model in sharing),
        sharing=tuple(sorted(sharing, key=lambda m: str(m.name))),
        record=parse_record(step.record) if step.record else StoreRecord(),
        jobs={b["metadata"]["name"]: parse_job(b) for b in of_kind["Job"]},
        pods=tuple(parse_pod(b) for b in of_kind["Pod"]),
        deployment=next((parse_deployment(b, b) for b in of_kind["Deployment"]), None),
        claims={b["metadata"]["name"]: parse_claim(b) for b in claims},
        nodes=nodes or None,
        texts=_find_texts(step),
        progress=None if step.progress is None else Progress.from_json(step.progress),
        uids={ObjectRef(b["kind"], b["metadata"]["name"]): b["metadata"]["uid"] for b in mine},
        live={ObjectRef(b["kind"], b["metadata"]["name"]): compute_object_digest(b) for b in mine},
    )


def _find_texts(step: Step) -> CalibrationTexts | None:
    calibration = step.model["spec"].get("engine", {}).get("calibration")
    if calibration is None:
        return None
    name = calibration["configMapRef"]["name"]
    found = (b for b in step.cluster if (b["kind"], b["metadata"]["name"]) == ("ConfigMap", name))
    text = next(found)["data"]["texts.txt"]
    return CalibrationTexts(digest=hashlib.sha256(text.encode()).hexdigest()[:20])
