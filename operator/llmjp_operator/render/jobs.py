"""Jobs that pin a source, build an artefact, or remove old artefacts. Pure.

Kubernetes retries none of them: whether to retry depends on the failure (`decide.job_results`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from llmjp_builder.contracts.spec import to_canonical_json
from llmjp_operator.decisions import RESOLVE_LIMIT_S
from llmjp_operator.names import (
    ATTEMPT,
    BUILD_SPEC,
    BUILDER_CONTAINER,
    CALIBRATION_FILE,
    CPU_FLAVOUR,
    FROM_CHECKPOINT,
    GPU,
    POD_DIGEST,
    SOURCE_FOLDER,
    SOURCE_LABEL,
    UNTIL,
    compute_digest,
)
from llmjp_operator.names import (
    make_build_job_name as build_name,
)
from llmjp_operator.names import (
    make_resolve_job_name as resolve_name,
)
from llmjp_operator.render.metadata import NAMING_LABELS, render_labels, render_metadata
from llmjp_operator.render.overlay import apply_settings
from llmjp_operator.render.pods import (
    STORE_VOLUME,
    TERMINATION_LOG,
    render_container_security,
    render_environment,
    render_pod_spec,
)
from llmjp_operator.render.quantities import format_mebibytes, render_resources
from llmjp_operator.settings import HUB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_operator.api import Model
    from llmjp_operator.decisions import BuildRequest, GarbageDecision, ResourceEstimate
    from llmjp_operator.settings import Settings

Object = dict[str, Any]

STORE_FOLDER: Final = "/store"
TOKEN_FOLDER: Final = "/etc/llmjp/token"  # noqa: S105  a path, not a token
"""Folder with the token's file, `token`."""
CA_FOLDER: Final = "/etc/llmjp/ca"
"""Folder with the file of certificates, `ca.crt`."""
SPEC_FOLDER: Final = "/etc/llmjp/build"
"""Folder with `spec.json`."""

_BUILD_ARGUMENTS: Final = (
    "build",
    "--spec",
    f"{SPEC_FOLDER}/spec.json",
    "--store",
    STORE_FOLDER,
    "--no-verify",
)

HUB_VARIABLE: Final = "HF_ENDPOINT"
"""Environment variable that names the hub, where no option does."""
FINISHED_TTL_S: Final = 86_400
"""How long finished Jobs are kept, for their logs."""
GRACE_S: Final = 30
"""Grace period of a builder, which loses nothing when it is killed."""
COLLECT_LIMIT_S: Final = 3600
_SMALL_RESOURCES: Final = {
    "requests": {"cpu": "100m", "memory": "256Mi"},
    "limits": {"memory": "2Gi"},
}
"""Resources of Jobs that only list and hash files."""
_DEFAULT_MEMORY_BYTES: Final = 16 << 30
"""Memory of a build whose needs are unknown."""
_PAGE_CACHE_BYTES: Final = 1 << 30
"""Room for the page cache, which the kernel reclaims, beside what a build allocates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _JobPod:
    """The differences between the pods of the Jobs."""

    name: str
    labels: dict[str, str]
    image: str
    arguments: list[str]
    mounts: list[Object]
    volumes: list[Object]
    resources: Object
    limit_s: int
    attempt: int = 1
    gpus: int = 0
    annotations: Mapping[str, str] | None = None
    """Of the pod."""
    about: Mapping[str, str] = field(default_factory=dict)
    """Further annotations of the Job."""


def render_resolve_job(
    model: Model, settings: Settings, *, attempt: int, single_node: bool
) -> Object:
    """Return the Job that pins the source.

    It hashes all files of a volume and keeps their sums in the store, so that the build does not
    hash them again.
    """
    volume, hub = model.spec.source.persistent_volume_claim, model.spec.source.hugging_face
    mounts, volumes = _render_source_volumes(model)
    arguments = ["resolve"]
    if volume is not None:
        arguments += [f"{SOURCE_FOLDER}/{volume.path}".rstrip("/"), "--store", STORE_FOLDER]
        mounts, volumes = _add_store(model, mounts, volumes)
    elif hub is not None:
        arguments += [hub.repository, "--revision", hub.revision]
        arguments += ["--endpoint", hub.endpoint] if hub.endpoint else []
        accepted = model.spec.licence.accepted
        arguments += ["--accept-licence", accepted] if accepted else []
    asked = model.spec.source.reference_digest
    labelled = render_labels(model, "resolve", store=volume is not None) | {SOURCE_LABEL: asked}
    pod = _JobPod(
        name=resolve_name(model.name, asked),
        labels=labelled,
        image=settings.images[CPU_FLAVOUR].builder,
        arguments=[*arguments, *_render_access_arguments(model)],
        mounts=mounts,
        volumes=volumes,
        resources=_render_helper_resources(model),
        limit_s=RESOLVE_LIMIT_S,
        attempt=attempt,
    )
    return _render_job(model, settings, pod, single_node=single_node and volume is not None)


def render_build_job(
    model: Model,
    request: BuildRequest,
    settings: Settings,
    *,
    needs: ResourceEstimate,
    attempt: int,
    single_node: bool,
) -> Object:
    """Return the Job that builds the request; its spec is a file made from an annotation."""
    compiles_only = request.checkpoint is not None
    source = ([], []) if compiles_only else _render_source_volumes(model)
    mounts, volumes = _add_store(model, *source)
    mounts = [*mounts, {"name": "spec", "mountPath": SPEC_FOLDER, "readOnly": True}]
    volumes = [*volumes, _render_spec_volume()]
    if not compiles_only:
        _add_calibration(model, mounts, volumes)
    given = model.spec.build.resources
    gpus = request.gpus
    pod = _JobPod(
        name=build_name(request.digest, model.store_claim),
        labels=render_labels(model, "build", request=request.digest, store=True),
        image=settings.images[model.spec.get_build_flavour(gpus)].builder,
        arguments=_render_build_arguments(model, request),
        mounts=mounts,
        volumes=volumes,
        resources=render_resources(
            _render_build_estimate(needs, gpus), (given.requests, given.limits), gpus, GPU
        ),
        limit_s=model.spec.build.active_deadline_seconds,
        attempt=attempt,
        gpus=gpus,
        annotations={BUILD_SPEC: to_canonical_json(request.spec.to_json())},
        about=_describe_step(request),
    )
    return _render_job(model, settings, pod, single_node=single_node)


def _render_build_arguments(model: Model, request: BuildRequest) -> list[str]:
    if request.checkpoint is not None:
        step = ["--from-checkpoint", request.checkpoint]
        return [*_BUILD_ARGUMENTS, *step, "--termination-message", TERMINATION_LOG]
    step = ["--until", "checkpoint"] if request.until_checkpoint else []
    return [*_BUILD_ARGUMENTS, *step, *_render_access_arguments(model)]


def _describe_step(request: BuildRequest) -> dict[str, str]:
    """Return annotations of a Job that tell which part of an engine's build it is."""
    if request.checkpoint is not None:
        return {FROM_CHECKPOINT: request.checkpoint}
    return {UNTIL: "checkpoint"} if request.until_checkpoint else {}


def _add_calibration(model: Model, mounts: list[Object], volumes: list[Object]) -> None:
    calibration = model.spec.engine.calibration
    ref = None if calibration is None else calibration.config_map_ref
    if ref is not None:
        folder, _, name = CALIBRATION_FILE.rpartition("/")
        mounts.append({"name": "calibration", "mountPath": folder, "readOnly": True})
        items = [{"key": ref.key, "path": name}]
        volumes.append({"name": "calibration", "configMap": {"name": ref.name, "items": items}})


def render_collect_job(
    model: Model, garbage: GarbageDecision, settings: Settings, *, single_node: bool
) -> Object:
    """Return the Job that removes artefacts from the store, except those in use after all."""
    mounts, volumes = _add_store(model, [], [])
    pod = _JobPod(
        name=garbage.job,
        labels=render_labels(model, "collect", store=True),
        image=settings.images[CPU_FLAVOUR].builder,
        arguments=["store", "remove", "--store", STORE_FOLDER, "--after-build", *garbage.remove],
        mounts=mounts,
        volumes=volumes,
        resources=_render_helper_resources(model),
        limit_s=COLLECT_LIMIT_S,
    )
    return _render_job(model, settings, pod, single_node=single_node)


def _render_job(model: Model, settings: Settings, pod: _JobPod, *, single_node: bool) -> Object:
    container: Object = {
        "name": BUILDER_CONTAINER,
        "image": pod.image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": pod.arguments,
        "env": render_environment(),
        "resources": pod.resources,
        "securityContext": render_container_security(),
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}, *pod.mounts],  # noqa: S108
    }
    spec = render_pod_spec(
        model,
        settings,
        container,
        pod.volumes,
        node_selector=model.spec.build.node_selector,
        tolerations=model.spec.build.tolerations,
        gpus=pod.gpus,
        grace_s=GRACE_S,
        single_node=single_node,
    )
    metadata: Object = {"labels": dict(pod.labels)}
    if pod.annotations:
        metadata["annotations"] = dict(pod.annotations)
    template = apply_settings(
        {"metadata": metadata, "spec": spec},
        BUILDER_CONTAINER,
        model.spec.pods,
        model.spec.build.pods,
    )
    metadata, spec = template["metadata"], _fix_hub(model, template["spec"])
    annotations = {
        ATTEMPT: str(pod.attempt),
        POD_DIGEST: _compute_pod_digest(metadata, spec, pod.limit_s),
        **pod.about,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": render_metadata(model, pod.name, pod.labels, annotations),
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": pod.limit_s,
            "ttlSecondsAfterFinished": FINISHED_TTL_S,
            "podReplacementPolicy": "Failed",
            "template": {"metadata": metadata, "spec": {**spec, "restartPolicy": "Never"}},
        },
    }


def _fix_hub(model: Model, spec: Object) -> Object:
    """Return the pod with the hub that its token was allowed for, whatever `spec.pods` says."""
    hub = model.spec.source.hugging_face
    if hub is None or hub.token_secret_ref is None:
        return spec
    [container] = spec["containers"]
    others = [each for each in container["env"] if each["name"] != HUB_VARIABLE]
    if len(others) == len(container["env"]) and not container.get("envFrom"):
        return spec
    fixed = {"name": HUB_VARIABLE, "value": hub.endpoint or f"https://{HUB}"}
    return {**spec, "containers": [{**container, "env": [*others, fixed]}]}


def _compute_pod_digest(metadata: Object, spec: Object, limit_s: int) -> str:
    """Return the digest of everything about the pods that may change their result.

    The model's name is none of it: models that share a build share its failures, if their pods are
    equal besides.
    """
    labels = {k: v for k, v in metadata["labels"].items() if k not in NAMING_LABELS}
    pods = {k: v for k, v in spec.items() if k != "serviceAccountName"}
    decisive = {"metadata": {**metadata, "labels": labels}, "spec": pods, "limit_s": limit_s}
    return compute_digest(to_canonical_json(decisive))


def _render_build_estimate(needs: ResourceEstimate, gpus: int) -> dict[str, dict[str, str]]:
    """Return CPUs for the threads that convert and compile, and memory as planned."""
    memory = needs.memory_bytes or _DEFAULT_MEMORY_BYTES
    return {
        "requests": {"cpu": "8" if gpus else "2", "memory": format_mebibytes(memory)},
        "limits": {"memory": format_mebibytes(memory + memory // 4 + _PAGE_CACHE_BYTES)},
    }


def _render_helper_resources(model: Model) -> Object:
    """Return the resources of Jobs that only list and hash files."""
    given = model.spec.build.helper_resources
    return render_resources(_SMALL_RESOURCES, (given.requests, given.limits), 0, GPU)


def _render_access_arguments(model: Model) -> list[str]:
    """Return arguments for access to a hub, and for the termination message."""
    hub = model.spec.source.hugging_face
    found = ["--termination-message", TERMINATION_LOG]
    if hub is not None and hub.token_secret_ref is not None:
        found += ["--token-file", f"{TOKEN_FOLDER}/token"]
    if hub is not None and hub.ca_secret_ref is not None:
        found += ["--ca-file", f"{CA_FOLDER}/ca.crt"]
    return found


def _render_source_volumes(model: Model) -> tuple[list[Object], list[Object]]:
    """Return mounts and volumes of the source: secrets of a hub, or a volume."""
    mounts: list[Object] = []
    volumes: list[Object] = []
    hub, volume = model.spec.source.hugging_face, model.spec.source.persistent_volume_claim
    if volume is not None:
        mounts.append({"name": "source", "mountPath": SOURCE_FOLDER, "readOnly": True})
        claim = {"claimName": volume.claim_name, "readOnly": True}
        volumes.append({"name": "source", "persistentVolumeClaim": claim})
    if hub is not None and hub.token_secret_ref is not None:
        mounts.append({"name": "token", "mountPath": TOKEN_FOLDER, "readOnly": True})
        volumes.append(
            _render_secret_volume(
                "token", hub.token_secret_ref.name, hub.token_secret_ref.key, "token"
            )
        )
    if hub is not None and hub.ca_secret_ref is not None:
        mounts.append({"name": "ca", "mountPath": CA_FOLDER, "readOnly": True})
        volumes.append(
            _render_secret_volume("ca", hub.ca_secret_ref.name, hub.ca_secret_ref.key, "ca.crt")
        )
    return mounts, volumes


def _render_secret_volume(volume: str, name: str, key: str, path: str) -> Object:
    items = [{"key": key, "path": path}]
    secret = {"secretName": name, "items": items, "defaultMode": 0o440}
    return {"name": volume, "secret": secret}


def _add_store(
    model: Model, mounts: list[Object], volumes: list[Object]
) -> tuple[list[Object], list[Object]]:
    claim = {"claimName": model.store_claim}
    return (
        [*mounts, {"name": STORE_VOLUME, "mountPath": STORE_FOLDER}],
        [*volumes, {"name": STORE_VOLUME, "persistentVolumeClaim": claim}],
    )


def _render_spec_volume() -> Object:
    field = {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{BUILD_SPEC}']"}
    return {"name": "spec", "downwardAPI": {"items": [{"path": "spec.json", "fieldRef": field}]}}
