"""The Deployment that serves an artefact. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llmjp_builder.contracts.defaults import GRPC_PORT, HEALTH_PORT, HTTP_PORT, METRICS_PORT
from llmjp_builder.contracts.spec import Backend
from llmjp_operator.names import (
    ARTEFACT_FOLDER,
    COMPONENT,
    GPU,
    MODEL_LABEL,
    POD_DIGEST,
    SERVING_CONTAINER,
    make_revision_name,
)
from llmjp_operator.observe.revision import Revision, compute_template_digest, pack_template
from llmjp_operator.render.metadata import render_labels, render_metadata
from llmjp_operator.render.overlay import apply_overlay, apply_settings, protect_store
from llmjp_operator.render.pods import (
    STORE_VOLUME,
    TERMINATION_LOG,
    render_container_security,
    render_environment,
    render_pod_spec,
)
from llmjp_operator.render.quantities import format_mebibytes, render_resources

if TYPE_CHECKING:
    from llmjp_builder.contracts.spec import Built
    from llmjp_operator.api import Model, Spec
    from llmjp_operator.decisions import Candidate
    from llmjp_operator.settings import Settings

Object = dict[str, Any]

TLS_FOLDER: Final = "/etc/llmjp/tls"
"""Folder with tls.crt and tls.key."""

LOAD_BYTES_PER_S: Final = 100_000_000
"""Slowest storage of weights that we allow for; network file systems reach 100 MB/s."""
START_S: Final = 300
"""Time to start besides reading weights: Python, CUDA, warm-up."""
STARTUP_PERIOD_S: Final = 5
STARTUP_MARGIN_S: Final = 30
"""How much longer the kubelet waits than `llmjp serve`, which can then report the reason."""
PULL_S: Final = 60
"""Time until a pod's container starts."""
GPU_PULL_S: Final = 300
"""The same if NVIDIA's image of 14 GB may have to be pulled first."""
DRAIN_MARGIN_S: Final = 45
"""Time for Triton to exit after the last request; `llmjp serve` kills it after 30 s."""
_DEFAULT_MEMORY_BYTES: Final = 4 << 30
_SHARED_MEMORY_BYTES: Final = 1 << 30
"""Shared memory of each rank: NCCL rings and Triton regions (NVIDIA/TensorRT-LLM#408, #1702)."""
_SHARED_MEMORY_CPU_BYTES: Final = 256 << 20


def render_deployment(model: Model, revision: Revision) -> Object:
    """Return the Deployment that runs a revision, scaled and replaced as the spec says now."""
    serving, surge = model.spec.serving, model.spec.serving.max_surge
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": render_metadata(
            model,
            model.name,
            render_labels(model, "serving", store=True),
            {POD_DIGEST: revision.pods},
        ),
        "spec": {
            "replicas": serving.replicas,
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": revision.deadline_s,
            "selector": {"matchLabels": {COMPONENT: "serving", MODEL_LABEL: model.name}},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": surge, "maxUnavailable": 1 - surge},
            },
            "template": revision.template,
        },
    }


def make_revision(
    candidate: Candidate, settings: Settings, *, single_node: bool, number: int
) -> Revision:
    """Return the revision that a candidate becomes: its pods are rendered once, here.

    Args:
        candidate: the artefact, and the spec that it is served by.
        settings: source of images.
        single_node: whether all pods that mount the store must be on one node.
        number: number of the revision.
    """
    model, built = candidate.model, candidate.artefact
    template = _render_template(
        model, built, settings, candidate.host_memory_bytes, single_node=single_node
    )
    template = apply_settings(template, SERVING_CONTAINER, model.spec.pods)
    template = apply_overlay(template, model.spec.serving.pod_template)
    template = protect_store(template, model.store_claim)
    pods = compute_template_digest(template)
    return Revision(
        name=make_revision_name(model.name, f"{candidate.inputs.digest} {pods}"),
        number=number,
        inputs=candidate.inputs,
        pods=pods,
        packed=pack_template(template),
        deadline_s=_compute_probe_limit_s(built) + _get_pull_limit_s(model.spec),
        made_by=settings.version,
    )


def compute_start_limit_s(built: Built) -> int:
    """Return how long a server may take to become ready: 300 s and 1 s for every 100 MB."""
    seconds = START_S + built.bytes // LOAD_BYTES_PER_S
    return -(-seconds // STARTUP_PERIOD_S) * STARTUP_PERIOD_S


def _compute_probe_limit_s(built: Built) -> int:
    return compute_start_limit_s(built) + STARTUP_MARGIN_S


def _get_pull_limit_s(spec: Spec) -> int:
    """Return the time for pulling images, before which no rollout may count as stalled."""
    return GPU_PULL_S if spec.serving_gpus else PULL_S


def _render_template(
    model: Model,
    built: Built,
    settings: Settings,
    host_memory_bytes: int | None,
    *,
    single_node: bool,
) -> Object:
    gpus = model.spec.serving_gpus
    volumes = [
        _render_store_volume(model),
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": _format_shared_memory(gpus)}},
    ]
    if secret := model.spec.serving.tls.secret_name:
        volumes.append({"name": "tls", "secret": {"secretName": secret, "defaultMode": 0o440}})
    serving = model.spec.serving
    spec = render_pod_spec(
        model,
        settings,
        _render_container(model, built, settings, host_memory_bytes),
        volumes,
        node_selector=serving.node_selector,
        tolerations=serving.tolerations,
        gpus=gpus,
        grace_s=serving.drain_seconds + DRAIN_MARGIN_S,
        single_node=single_node,
    )
    labelled = render_labels(model, "serving", key=built.key, store=True)
    annotations = {"prometheus.io/port": str(METRICS_PORT), "prometheus.io/scrape": "true"}
    return {"metadata": {"labels": labelled, "annotations": annotations}, "spec": spec}


def _render_store_volume(model: Model) -> Object:
    claim = {"claimName": model.store_claim, "readOnly": True}
    return {"name": STORE_VOLUME, "persistentVolumeClaim": claim}


def _format_shared_memory(gpus: int) -> str:
    return format_mebibytes(_SHARED_MEMORY_BYTES * gpus if gpus else _SHARED_MEMORY_CPU_BYTES)


def _render_container(
    model: Model, built: Built, settings: Settings, host_memory_bytes: int | None
) -> Object:
    serving, gpus = model.spec.serving, model.spec.serving_gpus
    mounts: list[Object] = [
        {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
        {
            "name": STORE_VOLUME,
            "mountPath": ARTEFACT_FOLDER,
            "subPath": f"artefacts/{built.key}",
            "readOnly": True,
        },
    ]
    if serving.tls.secret_name:
        mounts.append({"name": "tls", "mountPath": TLS_FOLDER, "readOnly": True})
    given = serving.resources
    drain = ["llmjp", "drain", "--timeout", str(serving.drain_seconds)]
    return {
        "name": SERVING_CONTAINER,
        "image": settings.images[model.spec.serving_flavour].runtime,
        "imagePullPolicy": settings.image_pull_policy,
        "args": render_arguments(model.spec, built),
        "env": render_environment(_get_mpi_environment(gpus)),
        "ports": [
            {"name": name, "containerPort": port, "protocol": "TCP"}
            for name, port in (
                ("grpc", GRPC_PORT),
                ("http", HTTP_PORT),
                ("metrics", METRICS_PORT),
                ("health", HEALTH_PORT),
            )
        ],
        "resources": render_resources(
            _render_estimate(host_memory_bytes, gpus), (given.requests, given.limits), gpus, GPU
        ),
        "securityContext": render_container_security(),
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
        "startupProbe": _render_probe(
            "/readyz", STARTUP_PERIOD_S, _compute_probe_limit_s(built) // STARTUP_PERIOD_S
        ),
        "readinessProbe": _render_probe("/readyz", 5, 2),
        "livenessProbe": _render_probe("/livez", 10, 6),
        "lifecycle": {"preStop": {"exec": {"command": drain}}},
    }


def render_arguments(spec: Spec, built: Built) -> list[str]:
    """Return the arguments of the container, with only the options that the backend reads."""
    engine, serving = spec.engine, spec.serving
    found = ["serve", ARTEFACT_FOLDER, "--host", "0.0.0.0", "--backend", engine.backend.value]  # noqa: S104
    found += ["--max-batch-size", str(engine.max_batch_size)]
    found += ["--max-queue", str(serving.max_queue), "--max-context", str(engine.max_seq_len)]
    if engine.backend is Backend.PYTORCH:
        found += ["--tp", str(engine.tensor_parallel), "--pp", str(engine.pipeline_parallel)]
    if engine.backend is not Backend.TORCH:
        found += ["--kv-cache-fraction", f"{serving.kv_cache_fraction:g}"]
    if serving.tls.secret_name:
        found += ["--tls-cert", f"{TLS_FOLDER}/tls.crt", "--tls-key", f"{TLS_FOLDER}/tls.key"]
    found += ["--start-timeout", str(compute_start_limit_s(built))]
    return [*found, "--termination-message", TERMINATION_LOG]


def _get_mpi_environment(gpus: int) -> dict[str, str]:
    """Return variables for mpirun with a read-only root and without other machines.

    Without ssh in the image it exits at once unless the agent is empty (tried with Open MPI 4.1.4).
    """
    if gpus <= 1:
        return {}
    return {"OMPI_MCA_orte_tmpdir_base": "/tmp", "OMPI_MCA_plm_rsh_agent": ""}  # noqa: S108


def _render_estimate(host_memory_bytes: int | None, gpus: int) -> dict[str, dict[str, str]]:
    memory = format_mebibytes(host_memory_bytes or _DEFAULT_MEMORY_BYTES)
    return {"requests": {"cpu": str(4 * gpus) if gpus else "1", "memory": memory}}


def _render_probe(path: str, period_s: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": "health", "scheme": "HTTP"},
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
