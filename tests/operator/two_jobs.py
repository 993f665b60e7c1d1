"""What version N built of an engine with one Job, as it is decided with a Job for each step."""

from __future__ import annotations

import copy
from dataclasses import replace

from llmjp_builder.contracts.spec import to_canonical_json
from llmjp_operator.names import FROM_CHECKPOINT, REQUEST_LABEL, UNTIL
from tests.operator.version_n import STORE, Object, Step, labels_of, reconcile_step

CHECKPOINT = {
    "key": "c" * 20,
    "kind": "ranks",
    "cache_hit": False,
    "bytes": 1,
    "tensor_parallel": 1,
    "pipeline_parallel": 1,
}


def with_its_checkpoint(step: Step) -> Step:
    """Put into the record what an engine is compiled from, where today's operator asks for that.

    Version N had one Job for both. With the checkpoint there, every engine is decided as it was,
    and its Job is version N's without a source: `as_compiling`.
    """
    made = (b for b in reconcile_step(step)["apply"] if UNTIL in annotations_of(b))
    asked = next((labels_of(b)[REQUEST_LABEL] for b in made), None)
    if asked is None:
        return step
    entry = {f"checkpoint-{asked}": to_canonical_json(CHECKPOINT)}
    there = [b for b in step.cluster if b["kind"] == "ConfigMap" and labels_of(b).get(STORE)]
    written = step.writes["record"]
    [record] = there or [{**written, "data": {"schema": "1"}}]
    others = tuple(b for b in step.cluster if b not in there)
    with_entry = {**record, "data": {**record["data"], **entry}}
    writes = {
        **step.writes,
        "record": written and {**written, "data": {**written["data"], **entry}},
        "apply": [as_compiling(body) for body in step.writes["apply"]],
    }
    return replace(step, cluster=(*others, with_entry), writes=writes)


def as_compiling(body: Object) -> Object:
    """Return version N's Job for an engine as one that compiles what is there: it mounts no source,
    no token and no texts."""
    template = body["spec"].get("template") if body["kind"] == "Job" else None
    if template is None or labels_of(body)["app.kubernetes.io/component"] != "build":
        return body
    body, spec = copy.deepcopy(body), copy.deepcopy(template["spec"])
    [builder] = spec["containers"]
    where = builder["args"].index("--termination-message")
    ended = builder["args"][where : where + 2]
    builder["args"] = [*builder["args"][:where], "--from-checkpoint", CHECKPOINT["key"], *ended]
    for mounted in (builder["volumeMounts"], spec["volumes"]):
        mounted[:] = [v for v in mounted if v["name"] in {"scratch", "store", "spec"}]
    body["spec"]["template"]["spec"] = spec
    body["metadata"]["annotations"][FROM_CHECKPOINT] = CHECKPOINT["key"]
    return body


def annotations_of(body: Object) -> Object:
    return body["metadata"].get("annotations") or {}
