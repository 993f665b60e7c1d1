"""What `llmjp doctor` judges about GPUs. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from llmjp_cli.cluster.doctor.checks import Finding, Level, Unknown, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llmjp_cli.cluster.doctor.checks import Answer, Found

Object = dict[str, Any]

GPU: Final = "nvidia.com/gpu"
PRODUCT: Final = "nvidia.com/gpu.product"
DRIVER: Final = "nvidia.com/cuda.driver-version.full"
PRESENT: Final = ("nvidia.com/gpu.present", "feature.node.kubernetes.io/pci-10de.present")
DISCOVERY: Final = "install NVIDIA's GPU operator, or its GPU feature discovery"


def gpus(found: Found) -> list[Finding]:
    """Kinds of GPUs, free ones, labels, drivers, runtime class."""
    if isinstance(found.nodes, Unknown):
        return [unknown("GPUs", found.nodes)]
    there = [node for node in found.nodes if allocatable(node)]
    findings = list(_kinds(there, found.pods))
    if not there:
        message = "no node offers nvidia.com/gpu: only backend torch works here, on CPUs"
        findings.append(Finding("GPUs", Level.WARN, message, "install NVIDIA's device plugin"))
    for node in found.nodes:
        findings += _labels(node)
    findings += [driver(node) for node in there if _label(node, DRIVER)]
    if there:
        findings.append(runtime_class(found.runtime_classes))
    return findings


def allocatable(node: Object) -> int:
    """GPUs that a node offers."""
    said = str(((node.get("status") or {}).get("allocatable") or {}).get(GPU, "0"))
    return int(said) if said.isdecimal() else 0


def taken(node: Object, pods: Sequence[Object]) -> int:
    """GPUs of a node that pods have."""
    name = node["metadata"]["name"]
    return sum(
        _asked(pod)
        for pod in pods
        if (pod.get("spec") or {}).get("nodeName") == name
        and (pod.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}
    )


def _asked(pod: Object) -> int:
    containers = pod["spec"].get("containers") or ()
    limits = ((c.get("resources") or {}).get("limits") or {} for c in containers)
    return sum(int(str(each.get(GPU, "0"))) for each in limits)


def _kinds(nodes: Sequence[Object], pods: Answer[Sequence[Object]]) -> Iterator[Finding]:
    kinds: dict[tuple[str, str], list[Object]] = defaultdict(list)
    for node in nodes:
        major, minor = (_label(node, f"nvidia.com/gpu.compute.{n}") for n in ("major", "minor"))
        capability = f"{major}.{minor}" if major and minor else "not labelled"
        kinds[_label(node, PRODUCT) or "of no labelled kind", capability].append(node)
    for (product, capability), members in sorted(kinds.items()):
        check, total = f"GPUs {product}", sum(map(allocatable, members))
        most = max(map(allocatable, members))
        about = f"compute capability {capability}; {len(members)} nodes, {total} GPUs"
        if isinstance(pods, Unknown):
            message = f"{about}, at most {most} on one; free ones: cannot tell, because {pods.why}"
            yield Finding(check, Level.OK, message)
            continue
        left = [allocatable(node) - taken(node, pods) for node in members]
        message = f"{about}, at most {most} on one; {sum(left)} free, at most {max(left)} on one"
        yield Finding(check, Level.OK, message)


def _labels(node: Object) -> Iterator[Finding]:
    check, offered = f"node {node['metadata']['name']}", allocatable(node)
    if offered and not _label(node, PRODUCT):
        message = f"{offered} GPUs without the label {PRODUCT}: models with a gpuProduct avoid it"
        yield Finding(check, Level.WARN, message, DISCOVERY)
    elif offered and not _label(node, "nvidia.com/gpu.compute.major"):
        message = "no label says its compute capability: whether an engine fits is not checked"
        yield Finding(check, Level.WARN, message, DISCOVERY)
    elif not offered and any(_label(node, name) == "true" for name in PRESENT):
        message = "has NVIDIA GPUs, but offers none"
        yield Finding(check, Level.WARN, message, "look at NVIDIA's device plugin on that node")


def driver(node: Object) -> Finding:
    """Whether a node's driver is new enough for the images."""
    from llmjp_operator.runtimes import DEFAULT_RUNTIME, RUNTIMES

    check, there = f"driver of {node['metadata']['name']}", _label(node, DRIVER)
    lowest = RUNTIMES[DEFAULT_RUNTIME].minimum_driver
    if _numbers(there) >= _numbers(lowest):
        return Finding(check, Level.OK, f"{there}, {lowest} is needed")
    message = f"{there} is older than {lowest}, which runtime {DEFAULT_RUNTIME} needs"
    return Finding(check, Level.FAIL, message, "upgrade NVIDIA's driver on that node")


def runtime_class(answer: Answer[Sequence[Object]]) -> Finding:
    """Whether pods can ask for NVIDIA's container runtime."""
    check = "RuntimeClass nvidia"
    if isinstance(answer, Unknown):
        return unknown(check, answer)
    if any(each["metadata"]["name"] == "nvidia" for each in answer):
        message = "there; needed where NVIDIA's runtime is not the nodes' default"
        mend = "then: spec.serving.podTemplate.spec.runtimeClassName: nvidia"
        return Finding(check, Level.OK, message, mend)
    message = "none: right where NVIDIA's runtime is the nodes' default, else pods see no GPU"
    return Finding(check, Level.WARN, message, "else install NVIDIA's GPU operator")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in version.split("."))


def _label(node: Object, name: str) -> str:
    return str((node["metadata"].get("labels") or {}).get(name, ""))
