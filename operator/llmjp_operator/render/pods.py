"""What all our pods have in common: PodSecurity `restricted`, no token, a read-only root. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llmjp_operator.names import GPU, HOSTNAME, STORE_LABEL, make_store_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llmjp_operator.api import Model
    from llmjp_operator.api.scheduling import Toleration
    from llmjp_operator.settings import Settings

Object = dict[str, Any]

USER: Final = 10001
"""uid, gid and group of volumes; the images' own."""
TERMINATION_LOG: Final = "/dev/termination-log"
SCRATCH_FOLDER: Final = "/tmp"  # noqa: S108  an emptyDir of the pod
STORE_VOLUME: Final = "store"
"""Name of the volume of the store, in every pod that mounts it."""
ARTEFACT_FOLDER: Final = "/artefact"
"""Where the artefact that is served is mounted."""
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


def render_pod_security() -> Object:
    """Of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def render_container_security() -> Object:
    """Of a container of ours."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def render_environment(extra: Mapping[str, str] | None = None) -> list[Object]:
    """Of a container. An empty value is stored as none, and means the same."""
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
    """A pod with one container of ours.

    Args:
        model: whose it is; its ServiceAccount has no rights.
        settings: images' secrets.
        container: the one.
        volumes: besides the scratch folder.
        node_selector: labels of nodes, besides the GPU's.
        tolerations: taints of nodes, besides the one that keeps others off GPUs.
        gpus: how many the container takes.
        grace_s: how long it may take to end.
        single_node: whether all pods that mount the store must be on one node.
    """
    spec: Object = {
        "serviceAccountName": model.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": render_pod_security(),
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
    """On the node of the other pods of the store; the first one may go anywhere.

    Source: k8s.io/kubernetes/pkg/scheduler/framework/plugins/interpodaffinity.
    """
    store = make_store_id(model.store_claim)
    return {"labelSelector": {"matchLabels": {STORE_LABEL: store}}, "topologyKey": HOSTNAME}


def _render_toleration(given: Toleration) -> Object:
    """An empty value is stored as none, and means the same."""
    found = {
        "key": given.key,
        "operator": given.operator,
        "value": given.value or None,
        "effect": given.effect,
        "tolerationSeconds": given.toleration_seconds,
    }
    return {name: value for name, value in found.items() if value is not None}
