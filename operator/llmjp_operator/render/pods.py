"""Common parts of all pods: PodSecurity `restricted`, no token, a read-only root. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llmjp_operator.names import (
    GPU,
    HOSTNAME,
    STORE_LABEL,
    make_account_name,
    make_store_id,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llmjp_operator.api import Model
    from llmjp_operator.api.scheduling import Toleration
    from llmjp_operator.settings import Settings

Object = dict[str, Any]

TERMINATION_LOG: Final = "/dev/termination-log"
SCRATCH_FOLDER: Final = "/tmp"  # noqa: S108  an emptyDir of the pod
STORE_VOLUME: Final = "store"
"""Name of the volume of the store, in every pod that mounts it."""
GPU_PRODUCT: Final = "nvidia.com/gpu.product"
"""Label of nodes, by NVIDIA's GPU feature discovery."""

ENVIRONMENT: Final = {
    "HOME": SCRATCH_FOLDER,
    "TMPDIR": SCRATCH_FOLDER,
    "XDG_CACHE_HOME": f"{SCRATCH_FOLDER}/cache",
    "HF_HOME": f"{SCRATCH_FOLDER}/hf",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def render_pod_security(settings: Settings) -> Object:
    """Return the security context of a pod, without users and groups that the platform chooses."""
    users = settings.pod_users
    chosen = {
        "runAsUser": users.run_as_user,
        "runAsGroup": users.run_as_group,
        "fsGroup": users.fs_group,
        "fsGroupChangePolicy": None if users.fs_group is None else "OnRootMismatch",
    }
    return {
        "runAsNonRoot": True,
        **{name: value for name, value in chosen.items() if value is not None},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def render_container_security() -> Object:
    """Return the security context of a container."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def render_environment(extra: Mapping[str, str] | None = None) -> list[Object]:
    """Return `env` of a container; the API server stores an empty value as none."""
    return [
        {"name": name, **({"value": value} if value else {})}
        for name, value in {**ENVIRONMENT, **(extra or {})}.items()
    ]


def render_pod_spec(
    model: Model,
    settings: Settings,
    container: Object,
    volumes: list[Object],
    *,
    node_selector: Mapping[str, str] | None,
    tolerations: Iterable[Toleration],
    gpus: int,
    grace_s: int,
    single_node: bool,
) -> Object:
    """Return the spec of a pod with one container.

    Args:
        model: owner of the pod; its ServiceAccount has no rights.
        settings: source of the pull secrets.
        container: the container.
        volumes: volumes besides the scratch folder.
        node_selector: node labels besides that of the GPU.
        tolerations: tolerations besides that of GPU nodes.
        gpus: number of GPUs of the container.
        grace_s: termination grace period.
        single_node: whether all pods that mount the store must be on one node.
    """
    spec: Object = {
        "serviceAccountName": make_account_name(model.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": render_pod_security(settings),
        "terminationGracePeriodSeconds": grace_s,
        "containers": [container],
        "volumes": [{"name": "scratch", "emptyDir": {}}, *volumes],
    }
    selector = dict(node_selector or {})
    if gpus and model.spec.hardware.gpu_product is not None:
        selector[GPU_PRODUCT] = model.spec.hardware.gpu_product
    if selector:
        spec["nodeSelector"] = dict(sorted(selector.items()))
    tolerated = [_render_toleration(t) for t in tolerations]
    if gpus:
        tolerated.append({"key": GPU, "operator": "Exists", "effect": "NoSchedule"})
    if tolerated:
        spec["tolerations"] = tolerated
    if settings.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in settings.image_pull_secrets]
    if single_node:
        spec["affinity"] = {"podAffinity": {_REQUIRED_AFFINITY: [_render_store_affinity(model)]}}
    return spec


_REQUIRED_AFFINITY: Final = "requiredDuringSchedulingIgnoredDuringExecution"


def _render_store_affinity(model: Model) -> Object:
    """Return the affinity to the node of the store's other pods; the first pod may go anywhere.

    Source: k8s.io/kubernetes/pkg/scheduler/framework/plugins/interpodaffinity.
    """
    store = make_store_id(model.store_claim)
    return {"labelSelector": {"matchLabels": {STORE_LABEL: store}}, "topologyKey": HOSTNAME}


def _render_toleration(given: Toleration) -> Object:
    """Return a toleration; the API server stores an empty value as none."""
    found = {
        "key": given.key,
        "operator": given.operator,
        "value": given.value or None,
        "effect": given.effect,
        "tolerationSeconds": given.toleration_seconds,
    }
    return {name: value for name, value in found.items() if value is not None}
