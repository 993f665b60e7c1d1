"""Next steps for the owner of a model. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmjp_cli.cluster.status.fields import (
    explain_waiting,
    get_conditions,
    get_phase,
    get_status,
    is_available,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmjp_cli.cluster.status.overview import ModelOverview

Object = dict[str, Any]


def suggest_next_steps(overview: ModelOverview) -> Iterator[str]:
    """Yield commands and remedies; none where all is well and nothing can be called yet."""
    model = overview.model
    metadata, status = model["metadata"], get_status(model)
    if not status:
        yield "nothing has reconciled this model yet: `llmjp doctor` says whether the operator runs"
    elif status.get("observedGeneration") != metadata.get("generation"):
        yield "the operator has not seen the latest spec yet; if that lasts: `llmjp doctor`"
    conditions = get_conditions(model)
    accepted, progressing = conditions.get("Accepted") or {}, conditions.get("Progressing") or {}
    if accepted.get("status") == "False":
        yield _suggest_fix(model, str(accepted.get("reason")))
    elif get_phase(model) in {"Failed", "Degraded"} and progressing.get("status") == "False":
        yield from _suggest_retry(overview)
    reasons = [explain_waiting(pod) for pod in overview.pods]
    if any("Insufficient" in reason or "affinity" in reason for reason in reasons):
        yield "a pod cannot be scheduled: `llmjp doctor` lists the GPUs, and which are free"
    if is_available(model):
        forward = f"kubectl port-forward service/{metadata['name']} 8001{_format_namespace(model)}"
        yield f"talk to it: {forward}, then llmjp chat"


def _suggest_fix(model: Object, reason: str) -> str:
    edit = f"kubectl edit ljm {model['metadata']['name']}{_format_namespace(model)}"
    match reason:
        case "LicenceNotAccepted":
            return f"read the terms named above; to accept: {edit}"
        case "ImageMissing":
            return "set images in the operator chart's values: helm upgrade"
        case _:
            return f"fix the spec as said above: {edit}"


def _suggest_retry(overview: ModelOverview) -> Iterator[str]:
    model = overview.model
    name, namespace = model["metadata"]["name"], _format_namespace(model)
    if job := (get_status(model).get("build") or {}).get("job"):
        yield f"the log: kubectl logs job/{job}{namespace}"
    elif pod := next((each for each in overview.pods if explain_waiting(each)), None):
        yield f"the log: kubectl logs {pod['metadata']['name']}{namespace} --previous"
    yield (
        f"fix what is named above, or try again: kubectl annotate --overwrite ljm {name}"
        f"{namespace} serving.llmjp.dev/retry=$(date +%s)"
    )


def _format_namespace(model: Object) -> str:
    namespace = model["metadata"].get("namespace")
    return f" -n {namespace}" if namespace else ""
