"""Models to make the objects of: the samples, and what they do not have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from llmjp_builder.contracts.spec import Built, Kind, Resolution
from llmjp_builder.planning.models import find_model_by_size
from llmjp_operator.api import Model, parse_model
from llmjp_operator.decide.build_request import make_checkpoint_request, make_request
from llmjp_operator.decide.garbage import name_collect_job
from llmjp_operator.decide.revisions import compute_inputs
from llmjp_operator.decide.sizing import estimate_resources
from llmjp_operator.decisions import BuildRequest, Candidate, Decision, GarbageDecision
from llmjp_operator.observe.store_record import PinnedSource, StoreRecord
from llmjp_operator.render import jobs, network, service, serving, storage
from llmjp_operator.render.revision import render_revision
from llmjp_operator.settings import Network, Settings
from tests.operator.factories import (
    FOUND,
    SETTINGS,
    make_artefact,
    make_engine,
    make_failed_attempts,
)
from tests.operator.model_bodies import Object, make_model_body
from tests.operator.test_manifests import SAMPLES, load, size_of

RESOURCES = {
    "requests": {"cpu": "1500m", "memory": "1024Mi", "ephemeral-storage": "1.5Gi"},
    "limits": {"cpu": "2.0", "memory": "2147483648"},
}
TOLERATIONS = [{"key": "team", "operator": "Equal", "value": "a", "effect": "NoExecute"}]
SIDECAR: Object = {
    "name": "sidecar",
    "image": "sidecar:1",
    "command": ["run"],
    "args": ["--all"],
    "workingDir": "/tmp",
    "env": [
        {"name": "HERE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "EMPTY", "value": ""},
    ],
    "envFrom": [{"configMapRef": {"name": "more", "optional": True}, "prefix": "X_"}],
    "ports": [{"containerPort": 9000}, {"containerPort": 9001, "protocol": "UDP", "name": "udp"}],
    "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}, "requests": {"cpu": 1}},
    "volumeMounts": [{"name": "more", "mountPath": "/more", "readOnly": False}],
    "livenessProbe": {"httpGet": {"path": "/", "port": 9000}},
    "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
}
EVERYTHING: Object = {
    "source": {
        "huggingFace": {
            "repository": "example/llama",
            "revision": "v1",
            "endpoint": "http://mirror.example.com:8080",
            "tokenSecretRef": {"name": "token"},
            "caSecretRef": {"name": "ca"},
        }
    },
    "licence": {"accepted": "llama2"},
    "engine": {
        "backend": "tensorrt",
        "quantization": "fp8",
        "kvCache": "fp8",
        "calibration": {"configMapRef": {"name": "texts"}},
        "tensorParallel": 2,
        "maxSeqLen": 512,
        "maxInputLen": 256,
        "options": {"gemm_plugin": "auto"},
    },
    "build": {
        "resources": RESOURCES,
        "nodeSelector": {"disk": "fast"},
        "tolerations": TOLERATIONS,
        "activeDeadlineSeconds": 100,
        "backoffLimit": 0,
    },
    "storage": {
        "size": "1.5Ti",
        "storageClassName": "fast",
        "accessMode": "ReadWriteOnce",
        "onDelete": "Delete",
        "keepEngines": 3,
    },
    "serving": {
        "replicas": 0,
        "resources": RESOURCES,
        "nodeSelector": {"zone": "a", "disk": "fast"},
        "tolerations": [*TOLERATIONS, {"operator": "Exists", "effect": "NoSchedule"}],
        "maxSurge": 0,
        "drainSeconds": 0,
        "kvCacheFraction": 0.5,
        "maxQueue": 0,
        "service": {"type": "LoadBalancer", "annotations": {"cloud.example.com/kind": "internal"}},
        "tls": {"secretName": "tls"},
        "podTemplate": {
            "metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}},
            "spec": {
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [
                                {"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}
                            ]
                        }
                    },
                    "podAntiAffinity": {
                        "preferredDuringSchedulingIgnoredDuringExecution": [
                            {
                                "weight": 1,
                                "podAffinityTerm": {
                                    "labelSelector": {"matchLabels": {"team": "a"}},
                                    "topologyKey": "zone",
                                },
                            }
                        ]
                    },
                },
                "topologySpreadConstraints": [
                    {
                        "maxSkew": 1,
                        "topologyKey": "zone",
                        "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": {"matchLabels": {"team": "a"}},
                    }
                ],
                "schedulerName": "other",
                "imagePullSecrets": [{"name": "mine"}],
                "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["hub", "mirror"]}],
                "dnsPolicy": "None",
                "dnsConfig": {
                    "nameservers": ["10.0.0.10"],
                    "searches": ["example.com"],
                    "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
                },
                "securityContext": {"fsGroup": 2000, "supplementalGroups": [3000, 4000]},
                "volumes": [
                    {"name": "more", "emptyDir": {"sizeLimit": "1024Mi"}},
                    {"name": "map", "configMap": {"name": "more", "optional": True}},
                    {"name": "secret", "secret": {"secretName": "more", "defaultMode": 256}},
                    {"name": "claim", "persistentVolumeClaim": {"claimName": "more"}},
                ],
                "containers": [
                    {
                        "name": "triton",
                        "env": [{"name": "HF_HOME", "value": "/other"}, {"name": "N", "value": ""}],
                        "volumeMounts": [{"name": "map", "mountPath": "/map", "readOnly": True}],
                    },
                    SIDECAR,
                ],
                "initContainers": [
                    {**SIDECAR, "name": "native", "restartPolicy": "Always"},
                    {"name": "first", "image": "first:1"},
                ],
            },
        },
    },
}
WIDE = replace(
    SETTINGS,
    image_pull_secrets=("regcred",),
    network=Network(
        build_egress=({"to": [{"podSelector": {"matchLabels": {"app": "mirror"}}}]},),
        serving_from=({"namespaceSelector": {}},),
        metrics_from=({"namespaceSelector": {"matchLabels": {"name": "monitoring"}}},),
    ),
)


def list_samples() -> Iterator[Any]:
    for path in SAMPLES:
        yield pytest.param(load(path), SETTINGS, id=path.stem)
    yield pytest.param(make_model_body(EVERYTHING, "everything"), WIDE, id="everything")
    bare = replace(SETTINGS, network=Network(enabled=False))
    yield pytest.param(make_model_body({"engine": {"backend": "torch"}}, "torch"), bare, id="torch")
    volume = {"huggingFace": None, "persistentVolumeClaim": {"claimName": "c", "path": "a/b/"}}
    shared = {"size": None, "existingClaim": "shared"}
    spec = {"source": volume, "storage": shared, "engine": {"backend": "pytorch"}}
    yield pytest.param(make_model_body(spec, "shared"), SETTINGS, id="shared")


def make_sample_resolution(of: Model) -> Resolution:
    """Return the source, with the shapes that decide how much memory is requested."""
    size = size_of(of.spec)
    if size is None:
        return FOUND
    shape = find_model_by_size(size).config
    config = {
        **FOUND.config,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.max_position_embeddings,
    }
    return replace(FOUND, config=config, bytes=int(float(size[:-1]) * 2e9))


def make_sample_artefact(of: Model, found: Resolution) -> Built:
    """Return what a build would have made."""
    engine = of.spec.engine
    kind = engine.backend.kind
    values: dict[str, Any] = {
        "bytes": found.bytes // 2 if engine.quantization == "fp8" else found.bytes,
        "tensor_parallel": 1 if kind is Kind.UNIFIED else engine.tensor_parallel,
        "pipeline_parallel": 1 if kind is Kind.UNIFIED else engine.pipeline_parallel,
    }
    if kind is Kind.ENGINE:
        return make_engine(gpu_product=of.spec.hardware.gpu_product, **values)
    return make_artefact(kind=kind, **values)


def parse_sample(body: Object) -> Model:
    """The model as the operator sees it, with what the API server adds."""
    metadata = {**body["metadata"], "namespace": "ns", "uid": "uid-1", "generation": 1}
    return parse_model({**body, "metadata": metadata})


def render_rollout(
    of: Model,
    built: Built,
    settings: Settings = SETTINGS,
    memory_bytes: int | None = None,
    *,
    single_node: bool = False,
) -> tuple[Object, Object]:
    """Render the revision of a model that an artefact makes, and the Deployment that runs it."""
    decision = Decision(record=StoreRecord(), artefact=built, single_node=single_node)
    inputs = compute_inputs(of, decision, settings)
    assert inputs is not None
    candidate = Candidate(model=of, artefact=built, inputs=inputs, host_memory_bytes=memory_bytes)
    revision = serving.make_revision(candidate, settings, single_node=single_node, number=1)
    return render_revision(of, revision), serving.render_deployment(of, revision)


def list_sample_requests(of: Model, found: Resolution, texts: str | None) -> list[BuildRequest]:
    """Return every build of a model: of an engine, that of its checkpoint comes first."""
    artefact = make_request(of, found, texts)
    if of.spec.engine.backend.kind is not Kind.ENGINE:
        return [artefact]
    return [make_checkpoint_request(of, found, texts), replace(artefact, checkpoint="c" * 20)]


def render_all_objects(of: Model, settings: Settings) -> list[Object]:
    """All objects of a model, whatever the time at which each is made."""
    single_node = of.spec.storage.created_access_mode == "ReadWriteOnce"
    found = make_sample_resolution(of)
    built, rolled_back = make_sample_artefact(of, found), of.spec.serving.max_surge == 0
    texts = "c" * 20 if of.spec.engine.calibration is not None else None
    request, needs = make_request(of, found, texts), estimate_resources(of.spec, found)
    record = StoreRecord(
        sources={
            of.name: PinnedSource(asked=of.spec.source.reference_digest, uid=of.uid, found=found)
        },
        artefacts={request.digest: built},
        failed={"f" * 20: make_failed_attempts("f" * 20)} if rolled_back else {},
    )
    old = ("k" * 20,)
    garbage = GarbageDecision(remove=old, job=name_collect_job(of, old))
    objects = [
        storage.render_record(of, record),
        service.render_service_account(of),
        network.render_builder_policy(of, settings),
        storage.render_claim(of),
        jobs.render_resolve_job(of, settings, attempt=1, single_node=single_node),
        *(
            jobs.render_build_job(
                of, each, settings, needs=needs, attempt=2, single_node=single_node
            )
            for each in list_sample_requests(of, found, texts)
        ),
        jobs.render_collect_job(of, garbage, settings, single_node=single_node),
        network.render_serving_policy(of, settings),
        *service.render_services(of),
        service.render_disruption_budget(of),
        *render_rollout(of, built, settings, needs.serving_memory_bytes, single_node=single_node),
    ]
    return [obj for obj in objects if obj is not None]
