"""Every field of the spec changes some object, and none that it has nothing to do with.

What a field changes is what rolls out or builds: nobody wants pods to restart for a build's time
limit.
"""

from __future__ import annotations

import copy
import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from llmjp_builder.contracts.constraints import Forbidden
from llmjp_builder.contracts.fields import parse_annotation
from llmjp_operator.api import Spec
from llmjp_operator.api.codec import list_api_fields
from llmjp_operator.names import UNTIL, make_headless_name
from llmjp_operator.observe.managed_fields import compute_object_digest
from llmjp_operator.runtimes import RUNTIMES
from tests.operator.factories import SETTINGS
from tests.operator.model_bodies import Object, make_model_body, merge_patch
from tests.operator.render.samples import parse_sample, render_all_objects

TOLERATION = {"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute"}
CONTAINER: Object = {"name": "other", "image": "other:1"}
BASE: Object = {
    "engine": {"backend": "tensorrt", "maxSeqLen": 512},
    "build": {"tolerations": [TOLERATION]},
    "serving": {
        "tolerations": [TOLERATION],
        "podTemplate": {
            "spec": {
                "volumes": [{"name": "more"}],
                "containers": [CONTAINER],
                "initContainers": [{**CONTAINER, "name": "first"}],
            }
        },
    },
}
VOLUME: Object = {"source": {"huggingFace": None, "persistentVolumeClaim": {"claimName": "c"}}}
FP8: Object = {"engine": {"quantization": "fp8"}}
TEXTS: Object = {"engine": {"calibration": {"configMapRef": {"name": "texts"}}, **FP8["engine"]}}
SHARED: Object = {"storage": {"size": None, "existingClaim": "shared"}}
TOKEN: Object = {"source": {"huggingFace": {"tokenSecretRef": {"name": "s"}}}}
CA: Object = {"source": {"huggingFace": {"caSecretRef": {"name": "s"}}}}

JOBS = "resolve checkpoint build collect"
FETCHING = "resolve checkpoint"
BUILDS = "checkpoint build"
PODS = "deployment"
Row = tuple[Any, str, Object]
"""Another value, what it changes, and what else the spec says."""

ROWS: dict[str, Row] = {
    "source.huggingFace.repository": ("example/other", f"resolve {BUILDS}", {}),
    "source.huggingFace.revision": ("v2", "resolve", {}),  # the build has the commit
    "source.huggingFace.tokenSecretRef.name": ("t", FETCHING, TOKEN),
    "source.huggingFace.tokenSecretRef.key": ("t", FETCHING, TOKEN),
    "source.huggingFace.endpoint": ("https://hub:8443", f"resolve {BUILDS} build-policy", {}),
    "source.huggingFace.caSecretRef.name": ("t", FETCHING, CA),
    "source.huggingFace.caSecretRef.key": ("t", FETCHING, CA),
    "source.persistentVolumeClaim.claimName": ("d", FETCHING, VOLUME),
    "source.persistentVolumeClaim.path": ("folder", f"resolve {BUILDS}", VOLUME),
    "licence.accepted": ("llama2", f"resolve {BUILDS}", {}),
    "hardware.gpuProduct": ("NVIDIA-H200", "build deployment", {}),
    "hardware.gpusPerNode": (2, "build", {"engine": {"tensorParallel": 4}}),
    "engine.backend": ("pytorch", f"{BUILDS} deployment", {}),
    "engine.quantization": ("fp8", BUILDS, {}),
    "engine.kvCache": ("fp8", BUILDS, FP8),
    "engine.dtype": ("float16", BUILDS, {}),
    "engine.calibration.configMapRef.name": ("other", "checkpoint", TEXTS),
    "engine.calibration.configMapRef.key": ("other.txt", "checkpoint", TEXTS),
    "engine.tensorParallel": (2, f"{BUILDS} deployment", {}),
    "engine.pipelineParallel": (2, f"{BUILDS} deployment", {}),
    "engine.padIntermediate": (16, BUILDS, {}),
    "engine.maxBatchSize": (8, "build deployment", {}),
    "engine.maxInputLen": (100, "build", {}),
    "engine.maxSeqLen": (256, "build deployment", {}),
    "engine.options": ({"gemm_plugin": "auto"}, "build", {}),
    "build.resources.requests": ({"cpu": "3"}, BUILDS, {}),
    "build.resources.limits": ({"cpu": "20"}, BUILDS, {}),
    "build.helperResources.requests": ({"cpu": "3"}, "resolve collect", {}),
    "build.helperResources.limits": ({"cpu": "4"}, "resolve collect", {}),
    "build.calibration.gpu": (True, "checkpoint", FP8),
    "build.nodeSelector": ({"disk": "fast"}, JOBS, {}),
    "build.activeDeadlineSeconds": (100, BUILDS, {}),
    "storage.size": ("2Ti", "claim", {}),
    "storage.storageClassName": ("fast", "claim", {}),
    "storage.accessMode": ("ReadWriteOnce", f"claim {BUILDS} collect deployment", {}),
    "storage.existingClaim": ("other", f"record {BUILDS} collect deployment", SHARED),
    "storage.onDelete": ("Delete", "claim record", {}),
    "serving.replicas": (2, PODS, {}),
    "serving.resources.requests": ({"cpu": "3"}, PODS, {}),
    "serving.resources.limits": ({"cpu": "20"}, PODS, {}),
    "serving.nodeSelector": ({"disk": "fast"}, PODS, {}),
    "serving.maxSurge": (0, PODS, {}),
    "serving.drainSeconds": (30, PODS, {}),
    "serving.kvCacheFraction": (0.5, PODS, {}),
    "serving.maxQueue": (8, PODS, {}),
    "serving.upgradePolicy": ("Roll", "", {}),
    "serving.service.type": ("NodePort", "service serving-policy", {}),
    "serving.service.annotations": ({"a": "b"}, "service", {}),
    "serving.tls.secretName": ("t", f"{PODS} service headless", {}),
}
for _part, _changed in (("build", JOBS), ("serving", PODS)):
    ROWS |= {
        f"{_part}.tolerations[].key": ("other", _changed, {}),
        f"{_part}.tolerations[].operator": ("Exists", _changed, {}),
        f"{_part}.tolerations[].value": ("other", _changed, {}),
        f"{_part}.tolerations[].effect": ("NoSchedule", _changed, {}),
        f"{_part}.tolerations[].tolerationSeconds": (5, _changed, {}),
    }

SHARED_SETTINGS: dict[str, Any] = {
    "labels": {"team": "a"},
    "annotations": {"sidecar.istio.io/inject": "false"},
    "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "envFrom": [{"configMapRef": {"name": "a"}}],
    "runtimeClassName": "nvidia",
    "priorityClassName": "high",
    "schedulerName": "other",
    "imagePullSecrets": [{"name": "mine"}],
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["hub"]}],
    "dnsPolicy": "Default",
    "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
    "securityContext.fsGroup": 5,
    "securityContext.fsGroupChangePolicy": "Always",
    "securityContext.supplementalGroups": [4000],
}
for _path, _changed in (("pods", f"{JOBS} {PODS}"), ("build.pods", JOBS)):
    ROWS |= {f"{_path}.{name}": (value, _changed, {}) for name, value in SHARED_SETTINGS.items()}

_PROBE = {"httpGet": {"path": "/", "port": 9000}}
OVERLAY: dict[str, Any] = {
    "metadata.labels": {"team": "a"},
    "metadata.annotations": {"note": "a"},
    "spec.affinity": {"nodeAffinity": {}},
    "spec.topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone"}],
    "spec.priorityClassName": "high",
    "spec.runtimeClassName": "nvidia",
    "spec.schedulerName": "other",
    "spec.imagePullSecrets": [{"name": "mine"}],
    "spec.hostAliases": [{"ip": "10.0.0.1", "hostnames": ["hub"]}],
    "spec.dnsPolicy": "Default",
    "spec.dnsConfig": {"nameservers": ["10.0.0.1"]},
    "spec.securityContext.fsGroup": 5,
    "spec.securityContext.fsGroupChangePolicy": "Always",
    "spec.securityContext.supplementalGroups": [5],
    "spec.volumes[].name": "others",
    "spec.volumes[].configMap": {"name": "a"},
    "spec.volumes[].secret": {"secretName": "a"},
    "spec.volumes[].emptyDir": {},
    "spec.volumes[].persistentVolumeClaim": {"claimName": "a"},
    "spec.volumes[].csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": True},
    "spec.volumes[].projected": {"sources": [{"configMap": {"name": "ca"}}]},
    "spec.volumes[].downwardAPI": {"items": []},
    "spec.volumes[].ephemeral": {"volumeClaimTemplate": {"spec": {}}},
    "spec.preemptionPolicy": "Never",
    "spec.readinessGates": [{"conditionType": "example.com/lb"}],
    "spec.resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "h100"}],
    "spec.shareProcessNamespace": True,
    "spec.enableServiceLinks": True,
}
for _kind in ("containers", "initContainers"):
    OVERLAY |= {
        f"spec.{_kind}[].name": "another",
        f"spec.{_kind}[].image": "other:2",
        f"spec.{_kind}[].imagePullPolicy": "Always",
        f"spec.{_kind}[].command": ["run"],
        f"spec.{_kind}[].args": ["--all"],
        f"spec.{_kind}[].workingDir": "/tmp",
        f"spec.{_kind}[].env": [{"name": "A", "value": "1"}],
        f"spec.{_kind}[].envFrom": [{"configMapRef": {"name": "a"}}],
        f"spec.{_kind}[].ports": [{"containerPort": 9000}],
        f"spec.{_kind}[].resources": {"limits": {"cpu": "1"}},
        f"spec.{_kind}[].volumeMounts": [{"name": "more", "mountPath": "/more"}],
        f"spec.{_kind}[].livenessProbe": _PROBE,
        f"spec.{_kind}[].readinessProbe": _PROBE,
        f"spec.{_kind}[].startupProbe": _PROBE,
        f"spec.{_kind}[].lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
        f"spec.{_kind}[].restartPolicy": "Always",
        f"spec.{_kind}[].terminationMessagePath": "/tmp/message",
        f"spec.{_kind}[].terminationMessagePolicy": "File",
        f"spec.{_kind}[].securityContext.runAsUser": 1337,
        f"spec.{_kind}[].securityContext.runAsGroup": 1337,
        f"spec.{_kind}[].securityContext.readOnlyRootFilesystem": False,
        f"spec.{_kind}[].securityContext.capabilities.add": ["NET_BIND_SERVICE"],
        f"spec.{_kind}[].securityContext.seccompProfile.type": "RuntimeDefault",
    }
ROWS |= {f"serving.podTemplate.{path}": (value, PODS, {}) for path, value in OVERLAY.items()}

_SECURITY = "serving.podTemplate.spec.{}[].securityContext.{}"
_RESTRICTED = "PodSecurity restricted has it anyway, and refuses every other value"
NOTHING = {
    **{
        _SECURITY.format(kind, name): _RESTRICTED
        for kind in ("containers", "initContainers")
        for name in ("allowPrivilegeEscalation", "privileged", "runAsNonRoot", "capabilities.drop")
    },
    **{
        _SECURITY.format(kind, "seccompProfile.localhostProfile"): "only together with its type"
        for kind in ("containers", "initContainers")
    },
    "build.backoffLimit": "the operator counts attempts itself: attempts.py",
    "storage.keepEngines": "decides when there is a collect Job, not what it is: collection.py",
    "runtime.version": "its table has one row: the next one chooses images and stands in requests",
}
"""Fields that change no object, and why."""


def leaves(cls: type, path: str = "") -> Iterator[str]:
    """Paths of all fields that hold a value of their own, but for those that are refused."""
    for member in list_api_fields(cls):
        if member.type.constraint(Forbidden):
            continue
        here = f"{path}.{member.name}".lstrip(".")
        kind = member.type.kind
        if typing.get_origin(kind) is tuple:
            kind, here = parse_annotation(typing.get_args(kind)[0]).kind, f"{here}[]"
        if dataclasses.is_dataclass(kind):
            yield from leaves(typing.cast("type", kind), here)
        else:
            yield here.removesuffix("[]")


def changed(spec: Object, path: str, value: Any) -> Object:
    """The spec with another value at that path, and in the first item of its lists."""
    result = copy.deepcopy(spec)
    inner = result
    *names, last = path.split(".")
    for name in names:
        inner = inner[name[:-2]][0] if name.endswith("[]") else inner.setdefault(name, {})
    inner[last] = value
    return result


def roles(spec: Object) -> dict[str, tuple[str, str]]:
    """Name and digest of every object, by what it is there for; of the record, whose it is."""
    found = {}
    body = {**make_model_body(name="m"), "spec": spec}
    for obj in render_all_objects(parse_sample(body), SETTINGS):
        if obj["kind"] == "ControllerRevision":
            continue  # It keeps the pods of the Deployment.
        kind, component = obj["kind"], obj["metadata"]["labels"]["app.kubernetes.io/component"]
        name = obj["metadata"]["name"]
        role = {
            "ConfigMap": "record",
            "PersistentVolumeClaim": "claim",
            "Job": "checkpoint" if UNTIL in obj["metadata"].get("annotations", {}) else component,
            "NetworkPolicy": f"{component}-policy",
            "Service": "headless" if name == make_headless_name("m") else "service",
        }.get(kind, kind.lower())
        told = {k: v for k, v in obj.items() if k != "data"}
        found[role] = (name, compute_object_digest(told))
    return found


@pytest.mark.parametrize("path", list(ROWS))
def test_a_field_changes_the_objects_it_is_documented_for(path: str) -> None:
    value, expected, besides = ROWS[path]
    spec = merge_patch(make_model_body(BASE)["spec"], besides)
    before, after = roles(spec), roles(changed(spec, path, value))
    differing = {
        role for role in before.keys() | after.keys() if before.get(role) != after.get(role)
    }
    assert differing == set(expected.split())


def test_every_field_of_the_spec_is_tested() -> None:
    assert sorted(leaves(Spec)) == sorted([*ROWS, *NOTHING])


@pytest.mark.parametrize(("path", "value"), [("build.backoffLimit", 7), ("storage.keepEngines", 7)])
def test_defaults_written_out_change_no_object(path: str, value: int) -> None:
    spec = make_model_body(BASE)["spec"]
    assert roles(changed(spec, path, value)) == roles(spec)


def test_there_is_one_runtime_so_far() -> None:
    assert len(RUNTIMES) == 1, "then test what spec.runtime.version changes"
