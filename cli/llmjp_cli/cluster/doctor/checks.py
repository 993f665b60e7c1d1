"""Checks of a cluster: from plain objects to results. Pure.

What could not be read is `Unknown`, and the result then says "cannot tell, because ...".
GPUs and models are checked in `gpus` and `models`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeAlias, TypeVar

Object = dict[str, Any]
T = TypeVar("T")

MIN_VERSION: Final = (1, 29)
"""The oldest Kubernetes that the chart supports."""
STALE_AFTER: Final = 2.0
"""A Lease is stale after so many times its duration."""
RIGHTS: Final = (
    ("create", "serving.llmjp.dev", "llmjpmodels"),
    ("patch", "serving.llmjp.dev", "llmjpmodels"),
    ("get", "", "pods"),
    ("get", "", "pods/log"),
    ("get", "", "pods/portforward"),
    ("create", "", "pods/portforward"),
    ("list", "", "events"),
)
"""Verb, API group and resource of what users need to do."""
RWX_PROVISIONERS: Final = (
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
"""Provisioners of ReadWriteMany volumes, according to their documentation; a name may have a prefix
before them."""


class Level(StrEnum):
    """The outcome of a check."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "cannot tell"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The outcome of one check."""

    check: str
    level: Level
    message: str
    """What was found, and what it means."""
    advice: str = ""
    """How to fix it, or what else to know."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something that could not be read."""

    why: str


Answer: TypeAlias = T | Unknown
"""What was read, if it could be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOverview:
    """Everything that the checks look at."""

    namespace: str
    now: float
    """Seconds since 1970, by the API server's clock."""
    version: Answer[Object]
    definition: Answer[Object | None]
    operators: Answer[Sequence[Object]]
    lease: Answer[Object | None]
    rights: Mapping[tuple[str, str, str], Answer[bool]]
    nodes: Answer[Sequence[Object]]
    pods: Answer[Sequence[Object]]
    """Pods of all namespaces that have not ended."""
    runtime_classes: Answer[Sequence[Object]]
    storage_classes: Answer[Sequence[Object]]
    namespace_object: Answer[Object | None]
    network_policies: Answer[Sequence[Object]]
    models: Answer[Sequence[Object]]
    claims: Answer[Sequence[Object]]
    exists: Mapping[tuple[str, str], Answer[bool]] = field(default_factory=dict)
    """Whether Secrets and ConfigMaps that models refer to exist, by kind and name."""


def check_cluster(overview: ClusterOverview) -> list[Diagnosis]:
    """Check everything but GPUs and models."""
    return [
        check_version(overview.version),
        check_definition(overview.definition),
        check_operator(overview.operators),
        check_lease(overview.lease, overview.now),
        *(check_right(right, answer) for right, answer in overview.rights.items()),
        *check_storage_classes(overview.storage_classes),
        check_pod_security(overview.namespace_object, overview.namespace),
        check_network_policies(overview.network_policies),
    ]


def report_unknown(check: str, answer: Unknown) -> Diagnosis:
    """Return the result of a check that could not be made."""
    return Diagnosis(check, Level.UNKNOWN, f"cannot tell, because {answer.why}")


def check_version(answer: Answer[Object]) -> Diagnosis:
    """Check the version of the API server."""
    if isinstance(answer, Unknown):
        return report_unknown("API server", answer)
    text = str(answer.get("gitVersion"))
    numbers = tuple(int("".join(filter(str.isdigit, answer[n])) or 0) for n in ("major", "minor"))
    if numbers >= MIN_VERSION:
        return Diagnosis("API server", Level.OK, f"answers, Kubernetes {text}")
    oldest = ".".join(map(str, MIN_VERSION))
    message = f"Kubernetes {text} is older than {oldest}: validation rules do not work there"
    return Diagnosis("API server", Level.FAIL, message, f"upgrade the cluster to {oldest} or newer")


def check_definition(answer: Answer[Object | None]) -> Diagnosis:
    """Check that the kind is installed, in the version of this release."""
    from llmjp_operator.crd.definition import build_definition as ours
    from llmjp_operator.names import CRD

    check, apply = "kind LlmJpModel", "kubectl apply --server-side -f manifests/crd.yaml"
    if isinstance(answer, Unknown):
        return report_unknown(check, answer)
    if answer is None:
        return Diagnosis(
            check, Level.FAIL, f"{CRD} is not installed", f"install the chart, or {apply}"
        )
    established = any(
        (c.get("type"), c.get("status")) == ("Established", "True")
        for c in (answer.get("status") or {}).get("conditions") or ()
    )
    if not established:
        return Diagnosis(
            check, Level.FAIL, "installed, but not established yet", f"kubectl describe crd {CRD}"
        )
    wanted, there = ours()["spec"]["versions"], answer["spec"]["versions"]
    if (where := find_difference(wanted, there)) is None:
        return Diagnosis(check, Level.OK, "installed, from this release")
    message = f"from another release than this command: they differ at {where}"
    return Diagnosis(
        check, Level.WARN, message, f"helm upgrade (or {apply}), or use the llmjp of that release"
    )


def find_difference(wanted: object, there: object, path: str = "versions") -> str | None:
    """Return where two schemas first differ; None where they mean the same.

    The API server adds defaults and drops empty fields, but never drops or adds a property.
    """
    if isinstance(wanted, dict) and isinstance(there, dict):
        exact = path.endswith(".properties")
        names = [*wanted, *(n for n in there if exact and n not in wanted)]
        inside = (find_difference(wanted.get(n), there.get(n), f"{path}.{n}") for n in names)
        return next(filter(None, inside), None)
    if isinstance(wanted, list) and isinstance(there, list):
        if len(wanted) != len(there):
            return path
        pairs = enumerate(zip(wanted, there, strict=True))
        inside = (find_difference(one, other, f"{path}[{i}]") for i, (one, other) in pairs)
        return next(filter(None, inside), None)
    # Absent, empty and zero are the same where empty fields are dropped.
    return None if wanted == there or (not wanted and not there) else path


def check_operator(answer: Answer[Sequence[Object]]) -> Diagnosis:
    """Check that the operator runs."""
    check = "operator"
    if isinstance(answer, Unknown):
        return report_unknown(check, answer)
    if not answer:
        message = "not installed: models are not reconciled"
        advice = (
            "helm install llmjp-operator charts/llmjp-operator -n llmjp-system --create-namespace"
        )
        return Diagnosis(check, Level.FAIL, message, advice)
    sentences, level = [], Level.OK
    for deployment in answer:
        metadata, status = deployment["metadata"], deployment.get("status") or {}
        ready, wanted = status.get("readyReplicas") or 0, deployment["spec"].get("replicas", 1)
        sentences.append(f"{metadata['namespace']}/{metadata['name']}: {ready} of {wanted} ready")
        if not ready:
            level = Level.FAIL
        elif ready < wanted and level is Level.OK:
            level = Level.WARN
    first = answer[0]["metadata"]
    advice = (
        f"kubectl describe pods -n {first['namespace']} -l app.kubernetes.io/name=llmjp-operator"
    )
    return Diagnosis(check, level, "; ".join(sentences), "" if level is Level.OK else advice)


def check_lease(answer: Answer[Object | None], now: float) -> Diagnosis:
    """Check that an operator holds the leader election's Lease."""
    check = "operator's Lease"
    if isinstance(answer, Unknown):
        return report_unknown(check, answer)
    if answer is None:
        message = "missing: leader election is off, or no operator has ever led"
        return Diagnosis(check, Level.WARN, message, "check the operator's log")
    spec = answer.get("spec") or {}
    holder, renewed = spec.get("holderIdentity"), spec.get("renewTime")
    if not holder or not renewed:
        message = "no holder: no operator is active"
        return Diagnosis(check, Level.FAIL, message, "start the operator; check its log")
    passed = now - datetime.fromisoformat(renewed).timestamp()
    limit = STALE_AFTER * int(spec.get("leaseDurationSeconds") or 15)
    if passed > limit:
        message = (
            f"{holder} did not renew it for {passed:.0f} s (limit {limit:.0f} s): it hangs or died"
        )
        return Diagnosis(check, Level.FAIL, message, "check the operator's pods and log")
    return Diagnosis(check, Level.OK, f"held by {holder}")


def check_right(right: tuple[str, str, str], answer: Answer[bool]) -> Diagnosis:
    """Check that this user may do something in the namespace."""
    verb, _, resource = right
    check = f"right to {verb} {resource}"
    if isinstance(answer, Unknown):
        return report_unknown(check, answer)
    if answer:
        return Diagnosis(check, Level.OK, "granted")
    consequence = {
        "llmjpmodels": "models cannot be created or changed",
        "pods": "`llmjp status` does not show pods",
        "pods/log": "logs of builds and servers cannot be read",
        "pods/portforward": "Client.from_resource does not work from outside the cluster",
        "events": "`llmjp status` does not show events",
    }[resource]
    advice = "ask an administrator for the role edit in this namespace"
    return Diagnosis(check, Level.WARN, f"not granted: {consequence}", advice)


def check_storage_classes(answer: Answer[Sequence[Object]]) -> list[Diagnosis]:
    """Check that models can get volumes: by default, shared between nodes, growing."""
    if isinstance(answer, Unknown):
        return [report_unknown("storage classes", answer)]
    if not answer:
        message = "none: claims stay pending until somebody creates a volume for them"
        advice = "install a CSI driver, or create volumes and name them in storage.existingClaim"
        return [Diagnosis("storage classes", Level.WARN, message, advice)]
    return [_check_default_class(answer), *map(_check_storage_class, answer)]


def _check_default_class(classes: Sequence[Object]) -> Diagnosis:
    key = "storageclass.kubernetes.io/is-default-class"
    names = [
        c["metadata"]["name"]
        for c in classes
        if (c["metadata"].get("annotations") or {}).get(key) == "true"
    ]
    if names:
        return Diagnosis("default storage class", Level.OK, ", ".join(names))
    message = "none: a model without spec.storage.storageClassName gets no volume"
    return Diagnosis("default storage class", Level.WARN, message, "name one in the models")


def _check_storage_class(storage_class: Object) -> Diagnosis:
    check = f"storage class {storage_class['metadata']['name']}"
    provisioner = str(storage_class.get("provisioner"))
    grows = (
        "volumes can grow" if storage_class.get("allowVolumeExpansion") else "volumes cannot grow"
    )
    if any(provisioner == known or provisioner.endswith(known) for known in RWX_PROVISIONERS):
        return Diagnosis(check, Level.OK, f"{provisioner}: ReadWriteMany, {grows}")
    message = f"{provisioner}: not known to provide ReadWriteMany volumes, {grows}"
    advice = "if it does not: spec.storage.accessMode: ReadWriteOnce, which ties pods to one node"
    return Diagnosis(check, Level.WARN, message, advice)


def check_pod_security(answer: Answer[Object | None], name: str) -> Diagnosis:
    """Check what the namespace demands of pods; ours meet the strictest level."""
    check = "PodSecurity"
    if isinstance(answer, Unknown):
        return report_unknown(check, answer)
    if answer is None:
        advice = f"kubectl create namespace {name}"
        return Diagnosis(check, Level.FAIL, f"the namespace {name} does not exist", advice)
    labels = answer["metadata"].get("labels") or {}
    level = labels.get("pod-security.kubernetes.io/enforce", "")
    if level:
        return Diagnosis(check, Level.OK, f"{name} enforces {level}; models' pods meet restricted")
    message = f"{name} enforces nothing; models' pods meet restricted, so it could"
    return Diagnosis(check, Level.OK, message)


def check_network_policies(answer: Answer[Sequence[Object]]) -> Diagnosis:
    """Check for policies besides the operator's that may affect models' pods."""
    check = "NetworkPolicy"
    if isinstance(answer, Unknown):
        return report_unknown(check, answer)
    others = [
        p["metadata"]["name"]
        for p in answer
        if (p["metadata"].get("labels") or {}).get("app.kubernetes.io/managed-by")
        != "llmjp-operator"
    ]
    if not others:
        return Diagnosis(check, Level.OK, "only the operator's own, or none")
    message = (
        f"besides the operator's: {', '.join(sorted(others))}. Policies only add permissions, so "
        "models' pods lose none, but clients in this namespace may be unable to reach them"
    )
    return Diagnosis(check, Level.OK, message, "clients need egress to port 8001")
