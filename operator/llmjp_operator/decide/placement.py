"""Nodes that take pods, and the limits of a volume on one node. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llmjp_operator.runtimes import RUNTIMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llmjp_builder.contracts.spec import Built
    from llmjp_operator.api import Model, Spec
    from llmjp_operator.observe.snapshot import ObservedNode, Snapshot

_MANY: Final = frozenset({"ReadWriteMany"})


def select_nodes(
    spec: Spec, nodes: Iterable[ObservedNode], *selectors: Mapping[str, str] | None
) -> list[ObservedNode]:
    """Return the nodes that take new pods, with the GPU and all labels that are asked for."""
    wanted = {key: value for selector in selectors for key, value in (selector or {}).items()}
    product = spec.hardware.gpu_product
    return [
        node
        for node in nodes
        if node.schedulable
        and (product is None or node.gpu_product == product)
        and all(node.labels.get(key) == value for key, value in wanted.items())
    ]


def is_single_node(model: Model, snapshot: Snapshot) -> bool:
    """Return whether only one node at a time can mount the store."""
    existing = model.spec.storage.existing_claim
    if existing is None:
        return model.spec.storage.created_access_mode == "ReadWriteOnce"
    claim = snapshot.claims.get(existing)
    return claim is not None and not _MANY.intersection(claim.access_modes)


def find_storage_deadlock(model: Model, snapshot: Snapshot) -> str | None:
    """Return why pods would wait for each other for ever; None where that is not known.

    A volume that one node at a time can mount ties building and serving to that node, and then its
    GPUs must be enough for whatever runs there at once.
    """
    if not is_single_node(model, snapshot) or snapshot.nodes is None:
        return None
    spec = model.spec
    pod, replicas = spec.serving_gpus, spec.serving.replicas
    nodes = select_nodes(spec, snapshot.nodes, spec.serving.node_selector)
    if pod == 0 or not nodes:
        return None
    most = max(node.gpus for node in nodes)
    volume = f"the store's volume is ReadWriteOnce, so all pods share one node of {most} GPUs"
    instead = "use a ReadWriteMany storage class"
    if replicas * pod > most:
        return f"{volume}: {replicas} replicas of {pod} GPUs need {replicas * pod}; {instead}"
    if spec.serving.max_surge and replicas and (replicas + 1) * pod > most:
        return (
            f"{volume}: a new pod of {pod} GPUs starts beside {replicas} old ones in an "
            f"update, which takes "
            f"{(replicas + 1) * pod}; set serving.maxSurge: 0, or {instead}"
        )
    return None


def find_build_deadlock(model: Model, snapshot: Snapshot, gpus: int) -> str | None:
    """Return why a build with so many GPUs would wait for ever for those of pods that serve."""
    spec = model.spec
    live = snapshot.deployment
    if not gpus or live is None or not is_single_node(model, snapshot) or snapshot.nodes is None:
        return None
    taken = live.replicas * spec.serving_gpus
    most = max(
        (n.gpus for n in select_nodes(spec, snapshot.nodes, spec.build.node_selector)), default=0
    )
    if not most or not taken or taken + gpus <= most:
        return None
    return (
        f"the store's volume is ReadWriteOnce, so the engine is built on the node of the "
        f"{live.replicas} pods that serve: that takes {taken + gpus} GPUs, and it has {most}; "
        "scale to 0 for the build, or use a ReadWriteMany storage class"
    )


def find_gpu_shortage(model: Model, snapshot: Snapshot, gpus: int) -> str:
    """Return why no node has so many GPUs for a build that is not scheduled; empty if unknown.

    A node may be added at any time, so this is told and does not keep a build from being created.
    """
    spec = model.spec
    nodes = select_nodes(spec, snapshot.nodes or (), spec.build.node_selector)
    if not gpus or not nodes:
        return ""
    serving = [pod.node for pod in snapshot.pods if pod.model == model.name and pod.key]
    taken = {node.name: serving.count(node.name) * spec.serving_gpus for node in nodes}
    if any(node.gpus - taken[node.name] >= gpus for node in nodes):
        return ""
    most = max(node.gpus for node in nodes)
    if most < gpus:
        return (
            f"the build takes {gpus} GPUs, and no node that it may go to has more than "
            f"{most}: add a node, or change spec.build.nodeSelector"
        )
    return (
        f"the build takes {gpus} GPUs, and pods that serve the model hold them: add a "
        "node, or set spec.serving.replicas: 0 for the build"
    )


def find_incompatibility(
    spec: Spec, artefact: Built, nodes: Iterable[ObservedNode] | None
) -> str | None:
    """Return why an engine would not load where its pods would go; None where none is known.

    Args:
        spec: what is asked for.
        artefact: the engine.
        nodes: None where they cannot be looked at.
    """
    return (
        _find_other_version(spec, artefact)
        or _find_other_product(spec, artefact)
        or _find_other_capability(spec, artefact, nodes or ())
    )


def _find_other_version(spec: Spec, artefact: Built) -> str | None:
    runtime = RUNTIMES[spec.runtime.version]
    versions = (
        ("tensorrt-llm", artefact.tensorrt_llm, runtime.tensorrt_llm),
        ("tensorrt", artefact.tensorrt, runtime.tensorrt),
    )
    for name, built_with, served_with in versions:
        if built_with and built_with != served_with:
            return (
                f"the engine was built with {name} {built_with}, but runtime "
                f"{spec.runtime.version} serves with {served_with}: the builder image does not fit "
                "the runtime table"
            )
    return None


def _find_other_product(spec: Spec, artefact: Built) -> str | None:
    wanted, product = spec.hardware.gpu_product, artefact.gpu_product
    if not wanted or not product or _to_label(product) == _to_label(wanted):
        return None
    return (
        f"the engine was built on {product}, but the model asks for nodes labelled "
        f"nvidia.com/gpu.product={wanted}: the label and the GPU do not agree"
    )


def _find_other_capability(
    spec: Spec, artefact: Built, nodes: Iterable[ObservedNode]
) -> str | None:
    capability = artefact.compute_capability
    for node in select_nodes(spec, nodes, spec.serving.node_selector):
        if capability and node.compute_capability and node.compute_capability != capability:
            return (
                f"the engine is for compute capability {capability}, but node {node.name} has "
                f"{node.compute_capability}: pods there would not start; narrow "
                "spec.serving.nodeSelector to nodes of one kind"
            )
    return None


def _to_label(product: str) -> str:
    """Return the product as GPU feature discovery spells it: dashes for spaces."""
    return "-".join(product.split()).casefold()
