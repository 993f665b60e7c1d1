"""Checks of GPUs. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from llmjp_cli.cluster.doctor.checks import Diagnosis, Level, Unknown, report_unknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llmjp_cli.cluster.doctor.checks import Answer, ClusterOverview

Object = dict[str, Any]

GPU: Final = "nvidia.com/gpu"
PRODUCT: Final = "nvidia.com/gpu.product"
DRIVER: Final = "nvidia.com/cuda.driver-version.full"
PRESENT: Final = ("nvidia.com/gpu.present", "feature.node.kubernetes.io/pci-10de.present")
DISCOVERY: Final = "install NVIDIA's GPU operator, or its GPU feature discovery"


def check_gpus(overview: ClusterOverview) -> list[Diagnosis]:
    """Check kinds of GPUs, free ones, labels, drivers and the runtime class."""
    if isinstance(overview.nodes, Unknown):
        return [report_unknown("GPUs", overview.nodes)]
    gpu_nodes = [node for node in overview.nodes if read_allocatable(node)]
    results = list(_summarize_kinds(gpu_nodes, overview.pods))
    if not gpu_nodes:
        message = "no node offers nvidia.com/gpu: only backend torch can run, on CPUs"
        results.append(Diagnosis("GPUs", Level.WARN, message, "install NVIDIA's device plugin"))
    for node in overview.nodes:
        results += _check_labels(node)
    results += [check_driver(node) for node in gpu_nodes if _get_label(node, DRIVER)]
    if gpu_nodes:
        results.append(check_runtime_class(overview.runtime_classes))
    return results


def read_allocatable(node: Object) -> int:
    """Return the number of GPUs that a node offers."""
    text = str(((node.get("status") or {}).get("allocatable") or {}).get(GPU, "0"))
    return int(text) if text.isdecimal() else 0


def count_used(node: Object, pods: Sequence[Object]) -> int:
    """Return the number of a node's GPUs that pods hold."""
    name = node["metadata"]["name"]
    return sum(
        _read_limit(pod)
        for pod in pods
        if (pod.get("spec") or {}).get("nodeName") == name
        and (pod.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}
    )


def _read_limit(pod: Object) -> int:
    containers = pod["spec"].get("containers") or ()
    limits = ((c.get("resources") or {}).get("limits") or {} for c in containers)
    return sum(int(str(each.get(GPU, "0"))) for each in limits)


def _summarize_kinds(
    nodes: Sequence[Object], pods: Answer[Sequence[Object]]
) -> Iterator[Diagnosis]:
    kinds: dict[tuple[str, str], list[Object]] = defaultdict(list)
    for node in nodes:
        major, minor = (_get_label(node, f"nvidia.com/gpu.compute.{n}") for n in ("major", "minor"))
        capability = f"{major}.{minor}" if major and minor else "not labelled"
        kinds[_get_label(node, PRODUCT) or "without a product label", capability].append(node)
    for (product, capability), members in sorted(kinds.items()):
        check, total = f"GPUs {product}", sum(map(read_allocatable, members))
        most = max(map(read_allocatable, members))
        about = f"compute capability {capability}; {len(members)} nodes, {total} GPUs"
        if isinstance(pods, Unknown):
            message = f"{about}, at most {most} on one; free: cannot tell, because {pods.why}"
            yield Diagnosis(check, Level.OK, message)
            continue
        free = [read_allocatable(node) - count_used(node, pods) for node in members]
        message = f"{about}, at most {most} on one; {sum(free)} free, at most {max(free)} on one"
        yield Diagnosis(check, Level.OK, message)


def _check_labels(node: Object) -> Iterator[Diagnosis]:
    check, offered = f"node {node['metadata']['name']}", read_allocatable(node)
    if offered and not _get_label(node, PRODUCT):
        message = f"{offered} GPUs without the label {PRODUCT}: gpuProduct does not select it"
        yield Diagnosis(check, Level.WARN, message, DISCOVERY)
    elif offered and not _get_label(node, "nvidia.com/gpu.compute.major"):
        message = "no label gives its compute capability: engines are not checked for it"
        yield Diagnosis(check, Level.WARN, message, DISCOVERY)
    elif not offered and any(_get_label(node, name) == "true" for name in PRESENT):
        message = "has NVIDIA GPUs, but offers none"
        yield Diagnosis(check, Level.WARN, message, "check NVIDIA's device plugin on that node")


def check_driver(node: Object) -> Diagnosis:
    """Check that a node's driver is new enough for the images."""
    from llmjp_operator.runtimes import DEFAULT_RUNTIME, RUNTIMES

    check, installed = f"driver of {node['metadata']['name']}", _get_label(node, DRIVER)
    lowest = RUNTIMES[DEFAULT_RUNTIME].minimum_driver
    if _parse_version(installed) >= _parse_version(lowest):
        return Diagnosis(check, Level.OK, f"{installed}; {lowest} or newer is needed")
    message = f"{installed} is older than {lowest}, which runtime {DEFAULT_RUNTIME} needs"
    return Diagnosis(check, Level.FAIL, message, "upgrade NVIDIA's driver on that node")


def check_runtime_class(answer: Answer[Sequence[Object]]) -> Diagnosis:
    """Check that pods can ask for NVIDIA's container runtime."""
    check = "RuntimeClass nvidia"
    if isinstance(answer, Unknown):
        return report_unknown(check, answer)
    if any(each["metadata"]["name"] == "nvidia" for each in answer):
        message = "exists; needed if NVIDIA's runtime is not the nodes' default"
        advice = "in that case: spec.serving.podTemplate.spec.runtimeClassName: nvidia"
        return Diagnosis(check, Level.OK, message, advice)
    message = (
        "missing: correct if NVIDIA's runtime is the nodes' default; otherwise pods see no GPU"
    )
    return Diagnosis(check, Level.WARN, message, "otherwise install NVIDIA's GPU operator")


def _parse_version(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in version.split("."))


def _get_label(node: Object, name: str) -> str:
    return str((node["metadata"].get("labels") or {}).get(name, ""))
