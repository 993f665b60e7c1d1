"""Today's operator decides what version N decided, byte for byte, in every step of every sample."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from llmjp_operator.api import encode, parse_model
from llmjp_operator.decide.requeue import TEXTS_EVERY_S
from llmjp_operator.names import MANAGED_BY, OWNER, make_headless_name
from tests.operator.model_bodies import merge_patch
from tests.operator.two_jobs import with_its_checkpoint
from tests.operator.version_n import (
    FOLDER,
    MODEL,
    SAMPLES,
    STORE,
    Object,
    Step,
    iterate_rested,
    labels_of,
    load_rested,
    load_sample,
    reconcile_step,
)

PHASES = {"Blocked", "Resolving", "Building", "RollingOut", "Serving", "Degraded", "Failed"}
LOOSE_ENDS = {"pod_lost", "deadline_exceeded", "not_enough_host_memory", "internal"}
"""Codes of failures that the operator words itself, step included: a builder's are passed on."""


ANNOTATIONS = {
    "Job": "serving.llmjp.dev/pods",
    "Deployment": "serving.llmjp.dev/failed-rollout",
}
"""Annotations that one of the versions does not make, by kind.

A Job says what its pods are, so that one that cannot start is replaced once it would be made
otherwise, and a failure is told from that of other pods. The pods themselves are version N's. That
a rollout failed is said by its revision, which version N did not have; it told the Deployment.
"""


def without_new_annotations(body: Object) -> Object:
    """Leave out what only one of the versions writes."""
    metadata, new = body["metadata"], ANNOTATIONS.get(body["kind"])
    if new not in metadata.get("annotations", {}):
        return body
    kept = {name: value for name, value in metadata["annotations"].items() if name != new}
    return {**body, "metadata": {**metadata, "annotations": kept}}


def with_names_of_today(step: Step) -> Step:
    """Name and mark all objects of a step as today's operator does; nothing else of them changes.

    Version N named a Service and a NetworkPolicy so that another model's could have the name, and
    did not mark claims and records as the operator's. What becomes of its objects in an upgrade:
    `test_an_upgrade_renames_and_marks_and_disturbs_no_pod`.
    """
    claim = find_claim_uid(step)
    removed = [
        {**r, "name": find_name_of_today(r["kind"], r["name"])} for r in step.writes["remove"]
    ]
    return replace(
        step,
        cluster=tuple(as_today(body, claim) for body in step.cluster),
        writes={
            **step.writes,
            "record": step.writes["record"] and as_today(step.writes["record"], claim),
            "apply": [as_today(body, claim) for body in step.writes["apply"]],
            "remove": removed,
        },
    )


def find_name_of_today(kind: str, name: str) -> str:
    """Return what version N's object is called today."""
    if kind == "NetworkPolicy" and name.endswith("-build"):
        return name.removesuffix("-build") + ".build"
    if kind == "Service" and name.endswith("-headless"):
        return make_headless_name(name.removesuffix("-headless"))
    return name


def find_claim_uid(step: Step) -> str:
    """Return the uid of the claim of the model's store; empty where there is none yet."""
    name = parse_model(step.model).store_claim
    claims = (b["metadata"] for b in step.cluster if b["kind"] == "PersistentVolumeClaim")
    return next((m["uid"] for m in claims if m["name"] == name), "")


def as_today(body: Object, claim: str) -> Object:
    """Return an object of version N with today's name and annotation, and its claim's uid."""
    metadata, kind = body["metadata"], body["kind"]
    renamed = {**metadata, "name": find_name_of_today(kind, metadata["name"])}
    labels = labels_of(body)
    if (
        kind in {"ConfigMap", "PersistentVolumeClaim"}
        and labels.get(STORE)
        and labels.get(MANAGED_BY)
    ):
        whose = labels[MODEL] if kind == "PersistentVolumeClaim" else labels[STORE]
        renamed["annotations"] = {OWNER: f"{metadata['namespace']}/{whose}"}
    if kind == "ConfigMap" and labels.get(STORE):
        about = {"claim": claim} if claim else {}
        body = {**body, "data": {**body["data"], **about, "schema": "1"}}
    return {**body, "metadata": renamed}


def only_forgets_a_failure(body: Object, step: Step) -> bool:
    """Return whether a Deployment is written to take version N's note of a failure from it."""
    name = body["metadata"]["name"]
    live = (b for b in step.cluster if (b["kind"], b["metadata"]["name"]) == (body["kind"], name))
    before: Object = next(live, {"metadata": {}})
    noted = ANNOTATIONS["Deployment"] in (before["metadata"].get("annotations") or {})
    return body["kind"] == "Deployment" and noted and before["spec"] == body["spec"]


def comparable(writes: Object, step: Step) -> Object:
    """Leave out sentences for people, which may get better; reasons and all else must not change.

    An event whose reason stood in the status already only tells the new sentence.
    """
    known = {c["reason"] for c in step.model["status"].get("conditions", ())}
    writes = {**writes, "status": without_additions(writes["status"])}
    return {
        **writes,
        "apply": [
            without_new_annotations(body)
            for body in writes["apply"]
            if body["kind"] != "ControllerRevision" and not only_forgets_a_failure(body, step)
        ],
        "record": writes["record"] and without_words_in_record(writes["record"]),
        "status": without_words(writes["status"]),
        "again_after_s": without_look_at_texts(writes["again_after_s"], step),
        "notices": [
            (n["type"], n["reason"]) for n in writes["notices"] if n["reason"] not in known
        ],
    }


def without_look_at_texts(again_after_s: float | None, step: Step) -> float | None:
    """Leave out that calibration texts are read again: version N never saw an edit of them."""
    calibrated = "configMapRef" in step.model["spec"]["engine"].get("calibration", {})
    return None if calibrated and again_after_s == TEXTS_EVERY_S else again_after_s


SUMMARY = {"Ready", "Reconciling", "Stalled"}
"""Conditions that version N did not have: kstatus, Flux and Argo CD read them."""


def without_additions(status: Object) -> Object:
    """Leave out what statuses have besides those of version N, and nothing that it had.

    `ready` is the column READY of `kubectl get`, which cannot be made of two numbers. What was
    called Serving with no pod at all, as its spec asks for none, is Idle now.
    """
    if status.get("phase") == "Idle":
        status = {**status, "phase": "Serving"}
    kept = [c for c in status.get("conditions", ()) if c["type"] not in SUMMARY]
    return {name: value for name, value in status.items() if name != "ready"} | {"conditions": kept}


def without_words(value: Any) -> Any:
    """Leave out messages of conditions, and what the operator says of a failure."""
    if isinstance(value, list):
        return [without_words(item) for item in value]
    if not isinstance(value, dict):
        return value
    dropped = set()
    if "lastTransitionTime" in value:
        dropped = {"message"}
    if value.get("code") in LOOSE_ENDS:
        dropped = {"message", "step"}
    return {k: without_words(v) for k, v in value.items() if k not in dropped}


def without_words_in_record(record: Object) -> Object:
    """Keep the text of each entry, but of those with such a failure the values."""
    data = {}
    for name, text in record["data"].items():
        if name in {"claim", "schema"}:
            data[name] = text
            continue
        value = without_count_of_lost_pods(json.loads(text))
        said = without_words(value)
        data[name] = text if said == value else said
    return {**record, "data": data}


def without_count_of_lost_pods(entry: Any) -> Any:
    """Leave out how often something was tried, where the cluster took the pod away.

    Version N counted that against `spec.build.backoffLimit`; now it is counted apart.
    """
    if not isinstance(entry, dict) or entry.get("failure", {}).get("code") != "pod_lost":
        return entry
    return {name: value for name, value in entry.items() if name not in {"attempts", "lost"}}


def find_difference(ours: Any, theirs: Any, path: str = "") -> str:
    """Return the first place where two JSON values differ, with both values; empty for none."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if ours.keys() != theirs.keys():
            return f"{path}: {sorted(ours.keys() ^ theirs.keys())} only in one of them"
        parts = [(f"{path}.{key}", ours[key], theirs[key]) for key in ours]
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        parts = [(f"{path}[{i}]", a, b) for i, (a, b) in enumerate(zip(ours, theirs, strict=True))]
    else:
        same = json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True)
        return "" if same else f"{path}: now {ours!r}, in version N {theirs!r}"
    return next(filter(None, (find_difference(a, b, where) for where, a, b in parts)), "")


DECIDED_OTHERWISE = {
    "everything: build-pod-lost[0]": "BuildRetrying",
    "everything: build-evicted[2]": "BuildRetrying",
}
"""Steps that version N decided otherwise, and the reason of `Progressing` now.

Its model has backoffLimit 0, and version N counted a pod that the cluster took away against that:
the build had failed for good.
"""


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_step_is_decided_as_in_version_n(sample: str) -> None:
    differences = []
    for step in (with_names_of_today(s) for steps in load_sample(sample).values() for s in steps):
        if str(step) in DECIDED_OTHERWISE:
            continue
        step = with_its_checkpoint(step)  # noqa: PLW2901
        ours, theirs = (comparable(w, step) for w in (reconcile_step(step), step.writes))
        if difference := find_difference(ours, theirs):
            differences.append(f"{step} {difference}")
    assert not differences, "\n".join(differences)


def is_marking(body: Object) -> bool:
    """Return whether an object is written to say whose it is."""
    return OWNER in body["metadata"].get("annotations", {})


def test_an_upgrade_renames_and_marks_and_disturbs_no_pod() -> None:
    for step in (step for step in iterate_rested() if step.status["phase"] == "Serving"):
        name, done = step.model["metadata"]["name"], reconcile_step(step)
        applied = [b for b in done["apply"] if b["kind"] != "ControllerRevision"]
        made = {(b["kind"], b["metadata"]["name"]) for b in applied if not is_marking(b)}
        new = {("NetworkPolicy", f"{name}.build"), ("Service", make_headless_name(name))}
        assert made <= new, step
        assert ("Service", make_headless_name(name)) in made
        removed = [(r["kind"], r["name"]) for r in done["remove"]]
        assert removed in ([], [("NetworkPolicy", f"{name}-build")]), step
        assert not done["first"]


def test_an_upgrade_builds_nothing() -> None:
    """Not what serves, not what failed for good, and beside no Job that runs."""
    for step in (s for s in iterate_rested() if s.status["phase"] != "Building"):
        assert [b for b in reconcile_step(step)["apply"] if b["kind"] == "Job"] == [], step


def test_a_build_of_version_n_goes_on() -> None:
    building = [step for step in iterate_rested() if step.status["phase"] == "Building"]
    running = [s for s in building if "failure" not in s.status["build"]]
    assert len(running) > len(SAMPLES)
    for step in running:
        done = reconcile_step(step)
        assert [b for b in done["apply"] if b["kind"] == "Job"] == [], step
        assert done["status"]["build"]["job"] == step.status["build"]["job"]


def names_of_jobs(step: Step) -> set[str]:
    return {body["metadata"]["name"] for body in step.cluster if body["kind"] == "Job"}


def test_the_older_name_of_a_service_goes_with_the_next_rollout() -> None:
    step = load_rested("llmjp-1.8b", "serving")
    name = step.model["metadata"]["name"]
    spec = merge_patch(step.model["spec"], {"serving": {"maxQueue": 7}})
    metadata = {**step.model["metadata"], "generation": step.model["metadata"]["generation"] + 1}
    edited = replace(step, model={**step.model, "metadata": metadata, "spec": spec})
    removed = [(r["kind"], r["name"]) for r in reconcile_step(edited)["remove"]]
    assert ("Service", f"{name}-headless") in removed


def test_what_is_decided_otherwise_is_decided_on_purpose() -> None:
    for step in (step for steps in load_sample("everything").values() for step in steps):
        if str(step) in DECIDED_OTHERWISE:
            step = with_its_checkpoint(step)  # noqa: PLW2901
            conditions = reconcile_step(step)["status"]["conditions"]
            [reason] = [c["reason"] for c in conditions if c["type"] == "Progressing"]
            assert reason == DECIDED_OTHERWISE[str(step)]
            assert step.status["phase"] == "Failed"


def test_every_status_of_version_n_is_read() -> None:
    """What is read and written again is the same text: nothing is lost in an upgrade."""
    for step in iterate_rested():
        assert encode(parse_model(step.model).status) == step.model["status"], step


def test_the_samples_have_been_in_every_phase() -> None:
    rested = list(iterate_rested())
    assert {step.status["phase"] for step in rested} == PHASES
    assert {step.sample for step in rested} >= {"llmjp-172b", "llmjp-tiny-cpu", "everything"}


def test_a_phase_at_rest_writes_nothing() -> None:
    for step in iterate_rested():
        assert_quiet(step)


def assert_quiet(step: Step) -> None:
    written = {name for name in ("record", "apply", "join", "first", "remove") if step.writes[name]}
    assert not written, step
    assert step.status == step.model["status"], step


def test_a_rested_step_is_a_whole_cluster() -> None:
    step = load_rested("llmjp-1.8b", "serving")
    kinds = {body["kind"] for body in step.cluster}
    assert kinds >= {"Deployment", "Job", "Pod", "Service", "ConfigMap", "PersistentVolumeClaim"}
    assert step.status["phase"] == "Serving"
    assert {name.partition("-")[0] for name in step.record} >= {"source", "artefact", "history"}


def test_a_difference_is_found() -> None:
    assert find_difference({"a": [1, True]}, {"a": [1, 1]}) == ".a[1]: now True, in version N 1"
    assert find_difference({"a": 1}, {"b": 1}) == ": ['a', 'b'] only in one of them"
    assert not find_difference({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]})


def test_the_fixture_is_what_it_was() -> None:
    lines = (FOLDER.parent / "SHA256SUMS").read_text("utf-8").splitlines()
    sums = {name: total for total, name in (line.split("  ") for line in lines)}
    files = [*FOLDER.parent.glob("*/*")]
    assert sums.keys() == {path.relative_to(FOLDER.parent).as_posix() for path in files}
    for path in files:
        name = path.relative_to(FOLDER.parent).as_posix()
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sums[name], name
