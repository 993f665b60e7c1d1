"""What `llmjp doctor` judges about a cluster: findings from plain objects. Pure.

What may not be looked at is `Unknown`, and the finding then says "cannot tell, because ...".
GPUs and models are judged in `doctor_nodes` and `doctor_models`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeAlias, TypeVar

Object = dict[str, Any]
T = TypeVar("T")

OLDEST: Final = (1, 29)
"""Kubernetes that the chart takes."""
LATE: Final = 2.0
"""A Lease is stale when it was not renewed for so many times its duration."""
RIGHTS: Final = (
    ("create", "serving.llmjp.dev", "llmjpmodels"),
    ("patch", "serving.llmjp.dev", "llmjpmodels"),
    ("get", "", "pods"),
    ("get", "", "pods/log"),
    ("get", "", "pods/portforward"),
    ("create", "", "pods/portforward"),
    ("list", "", "events"),
)
"""Verb, API group and resource of what users of this project do."""
SHARED: Final = (
    "efs.csi.aws.com",
    "fsx.csi.aws.com",
    "file.csi.azure.com",
    "filestore.csi.storage.gke.io",
    "lustre.csi.storage.gke.io",
    "cephfs.csi.ceph.com",
    "nfs.csi.k8s.io",
    "nfs-subdir-external-provisioner",
    "csi.trident.netapp.io",
    "driver.longhorn.io",
    "spectrumscale.csi.ibm.com",
    "csi.weka.io",
    "csi.vastdata.com",
    "beegfs.csi.netapp.com",
)
"""Provisioners of volumes that several nodes mount at once (their own documentation); the name may
have something in front."""


class Level(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "cannot tell"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    level: Level
    message: str
    """What was found, and what it means."""
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something that could not be looked at."""

    why: str


Answer: TypeAlias = T | Unknown
"""What was found, if one may know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All that was looked at."""

    namespace: str
    now: float
    """By the API server's clock."""
    version: Answer[Object]
    definition: Answer[Object | None]
    operators: Answer[Sequence[Object]]
    lease: Answer[Object | None]
    rights: Mapping[tuple[str, str, str], Answer[bool]]
    nodes: Answer[Sequence[Object]]
    pods: Answer[Sequence[Object]]
    """Of all namespaces, that have not ended."""
    runtime_classes: Answer[Sequence[Object]]
    storage_classes: Answer[Sequence[Object]]
    space: Answer[Object | None]
    """The namespace as an object."""
    policies: Answer[Sequence[Object]]
    models: Answer[Sequence[Object]]
    claims: Answer[Sequence[Object]]
    exists: Mapping[tuple[str, str], Answer[bool]] = field(default_factory=dict)
    """By kind and name: Secrets and ConfigMaps that models name."""


def cluster(found: Found) -> list[Finding]:
    """Everything but GPUs and models."""
    return [
        version(found.version),
        definition(found.definition),
        operator(found.operators),
        lease(found.lease, found.now),
        *(right(asked, answer) for asked, answer in found.rights.items()),
        *storage(found.storage_classes),
        pod_security(found.space, found.namespace),
        policies(found.policies),
    ]


def unknown(check: str, answer: Unknown) -> Finding:
    """That nobody can tell."""
    return Finding(check, Level.UNKNOWN, f"cannot tell, because {answer.why}")


def version(answer: Answer[Object]) -> Finding:
    """Of the API server."""
    if isinstance(answer, Unknown):
        return unknown("API server", answer)
    text = str(answer.get("gitVersion"))
    numbers = tuple(int("".join(filter(str.isdigit, answer[n])) or 0) for n in ("major", "minor"))
    if numbers >= OLDEST:
        return Finding("API server", Level.OK, f"answers, Kubernetes {text}")
    oldest = ".".join(map(str, OLDEST))
    message = f"Kubernetes {text} is older than {oldest}: the kind's rules do not work there"
    return Finding("API server", Level.FAIL, message, f"upgrade the cluster to {oldest} or newer")


def definition(answer: Answer[Object | None]) -> Finding:
    """Whether the kind is installed, and this release's."""
    from llmjp_operator.crd.definition import definition as ours
    from llmjp_operator.names import CRD

    check, apply = "kind LlmJpModel", "kubectl apply --server-side -f manifests/crd.yaml"
    if isinstance(answer, Unknown):
        return unknown(check, answer)
    if answer is None:
        return Finding(
            check, Level.FAIL, f"{CRD} is not installed", f"install the chart, or {apply}"
        )
    established = any(
        (c.get("type"), c.get("status")) == ("Established", "True")
        for c in (answer.get("status") or {}).get("conditions") or ()
    )
    if not established:
        return Finding(
            check, Level.FAIL, "installed, but not established", f"kubectl describe crd {CRD}"
        )
    wanted, there = ours()["spec"]["versions"], answer["spec"]["versions"]
    if (where := difference(wanted, there)) is None:
        return Finding(check, Level.OK, "installed, and this release's")
    message = f"another release's than this command's: they differ at {where}"
    return Finding(check, Level.WARN, message, f"helm upgrade (or {apply}), or the other llmjp")


def difference(wanted: object, there: object, path: str = "versions") -> str | None:
    """Where two schemas first differ; None where they say the same.

    The API server adds defaults and leaves out what is empty, but never drops or adds a property.
    """
    if isinstance(wanted, dict) and isinstance(there, dict):
        exact = path.endswith(".properties")
        names = [*wanted, *(n for n in there if exact and n not in wanted)]
        inside = (difference(wanted.get(n), there.get(n), f"{path}.{n}") for n in names)
        return next(filter(None, inside), None)
    if isinstance(wanted, list) and isinstance(there, list):
        if len(wanted) != len(there):
            return path
        pairs = enumerate(zip(wanted, there, strict=True))
        inside = (difference(one, other, f"{path}[{i}]") for i, (one, other) in pairs)
        return next(filter(None, inside), None)
    # Nothing, empty and zero are the same to whoever leaves empty fields out.
    return None if wanted == there or (not wanted and not there) else path


def operator(answer: Answer[Sequence[Object]]) -> Finding:
    """Whether it runs."""
    check = "operator"
    if isinstance(answer, Unknown):
        return unknown(check, answer)
    if not answer:
        message = "not installed: nothing happens to models"
        mend = (
            "helm install llmjp-operator charts/llmjp-operator -n llmjp-system --create-namespace"
        )
        return Finding(check, Level.FAIL, message, mend)
    sentences, level = [], Level.OK
    for found in answer:
        metadata, status = found["metadata"], found.get("status") or {}
        ready, wanted = status.get("readyReplicas") or 0, found["spec"].get("replicas", 1)
        sentences.append(f"{metadata['namespace']}/{metadata['name']}: {ready} of {wanted} ready")
        if not ready:
            level = Level.FAIL
        elif ready < wanted and level is Level.OK:
            level = Level.WARN
    first = answer[0]["metadata"]
    mend = f"kubectl describe pods -n {first['namespace']} -l app.kubernetes.io/name=llmjp-operator"
    return Finding(check, level, "; ".join(sentences), "" if level is Level.OK else mend)


def lease(answer: Answer[Object | None], now: float) -> Finding:
    """Whether somebody leads."""
    check = "operator's Lease"
    if isinstance(answer, Unknown):
        return unknown(check, answer)
    if answer is None:
        message = "there is none: leader election is switched off, or no operator ever led"
        return Finding(check, Level.WARN, message, "look at the operator's log")
    spec = answer.get("spec") or {}
    holder, renewed = spec.get("holderIdentity"), spec.get("renewTime")
    if not holder or not renewed:
        message = "nobody holds it: no operator acts"
        return Finding(check, Level.FAIL, message, "start the operator; look at its log")
    passed = now - datetime.fromisoformat(renewed).timestamp()
    limit = LATE * int(spec.get("leaseDurationSeconds") or 15)
    if passed > limit:
        message = (
            f"{holder} did not renew it for {passed:.0f} s (limit {limit:.0f} s): it hangs or died"
        )
        return Finding(check, Level.FAIL, message, "look at the operator's pods and log")
    return Finding(check, Level.OK, f"held by {holder}")


def right(asked: tuple[str, str, str], answer: Answer[bool]) -> Finding:
    """Whether this user may do something in the namespace."""
    verb, _, resource = asked
    check = f"right to {verb} {resource}"
    if isinstance(answer, Unknown):
        return unknown(check, answer)
    if answer:
        return Finding(check, Level.OK, "granted")
    means = {
        "llmjpmodels": "models cannot be created or changed",
        "pods": "`llmjp status` does not show pods",
        "pods/log": "logs of builds and servers cannot be read",
        "pods/portforward": "Client.from_resource does not work from outside the cluster",
        "events": "`llmjp status` does not show events",
    }[resource]
    mend = "ask an administrator for the role edit in this namespace"
    return Finding(check, Level.WARN, f"not granted: {means}", mend)


def storage(answer: Answer[Sequence[Object]]) -> list[Finding]:
    """Whether models find volumes: a default, shared ones, ones that grow."""
    if isinstance(answer, Unknown):
        return [unknown("storage classes", answer)]
    if not answer:
        message = "there is none: claims wait until somebody makes a volume for them"
        mend = "install a CSI driver, or make volumes and name them by storage.existingClaim"
        return [Finding("storage classes", Level.WARN, message, mend)]
    return [_default(answer), *map(_storage_class, answer)]


def _default(classes: Sequence[Object]) -> Finding:
    key = "storageclass.kubernetes.io/is-default-class"
    names = [
        c["metadata"]["name"]
        for c in classes
        if (c["metadata"].get("annotations") or {}).get(key) == "true"
    ]
    if names:
        return Finding("default storage class", Level.OK, ", ".join(names))
    message = "none: a model without spec.storage.storageClassName gets no volume"
    return Finding("default storage class", Level.WARN, message, "name one in the models")


def _storage_class(found: Object) -> Finding:
    check = f"storage class {found['metadata']['name']}"
    provisioner = str(found.get("provisioner"))
    grows = "volumes grow" if found.get("allowVolumeExpansion") else "volumes cannot grow"
    if any(provisioner == known or provisioner.endswith(known) for known in SHARED):
        return Finding(check, Level.OK, f"{provisioner}: ReadWriteMany, {grows}")
    message = f"{provisioner}: not known to make ReadWriteMany volumes, {grows}"
    mend = "if it makes none: spec.storage.accessMode: ReadWriteOnce, which ties pods to one node"
    return Finding(check, Level.WARN, message, mend)


def pod_security(answer: Answer[Object | None], name: str) -> Finding:
    """What the namespace demands of pods; ours fit the strictest."""
    check = "PodSecurity"
    if isinstance(answer, Unknown):
        return unknown(check, answer)
    if answer is None:
        mend = f"kubectl create namespace {name}"
        return Finding(check, Level.FAIL, f"the namespace {name} does not exist", mend)
    labels = answer["metadata"].get("labels") or {}
    level = labels.get("pod-security.kubernetes.io/enforce", "")
    if level:
        return Finding(check, Level.OK, f"{name} enforces {level}; models' pods fit restricted")
    message = f"{name} enforces nothing; models' pods fit restricted, so it may"
    return Finding(check, Level.OK, message)


def policies(answer: Answer[Sequence[Object]]) -> Finding:
    """Whether something besides the operator's policies bears on pods of models."""
    check = "NetworkPolicy"
    if isinstance(answer, Unknown):
        return unknown(check, answer)
    others = [
        p["metadata"]["name"]
        for p in answer
        if (p["metadata"].get("labels") or {}).get("app.kubernetes.io/managed-by")
        != "llmjp-operator"
    ]
    if not others:
        return Finding(check, Level.OK, "only the operator's own, or none")
    message = (
        f"besides the operator's: {', '.join(sorted(others))}. Policies add up, so they "
        "take nothing from models' pods, but may keep clients in this namespace from reaching them"
    )
    return Finding(check, Level.OK, message, "clients need egress to port 8001")
