"""Checks of models: whether what they refer to exists. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmjp_cli.cluster.doctor.checks import Diagnosis, Level, Unknown, report_unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmjp_cli.cluster.doctor.checks import ClusterOverview
    from llmjp_operator.api import Model

Object = dict[str, Any]


def check_models(overview: ClusterOverview) -> list[Diagnosis]:
    """Check all models of the namespace."""
    if isinstance(overview.models, Unknown):
        return [report_unknown("models", overview.models)]
    if not overview.models:
        return [Diagnosis("models", Level.OK, f"none in namespace {overview.namespace}")]
    return [result for body in overview.models for result in _check_model(body, overview)]


def list_references(body: Object) -> list[tuple[str, str]]:
    """Return kind and name of the Secrets and ConfigMaps that a model refers to."""
    spec = body.get("spec") or {}
    hub = (spec.get("source") or {}).get("huggingFace") or {}
    tls = (spec.get("serving") or {}).get("tls") or {}
    texts = ((spec.get("engine") or {}).get("calibration") or {}).get("configMapRef") or {}
    references = (
        ("Secret", (hub.get("tokenSecretRef") or {}).get("name")),
        ("Secret", (hub.get("caSecretRef") or {}).get("name")),
        ("Secret", tls.get("secretName")),
        ("ConfigMap", texts.get("name")),
    )
    return [(kind, name) for kind, name in references if name]


def _check_model(body: Object, overview: ClusterOverview) -> Iterator[Diagnosis]:
    from llmjp_operator.api import parse_model
    from llmjp_operator.errors import InvalidModel

    check = f"model {body['metadata']['name']}"
    phase = (body.get("status") or {}).get("phase") or "Pending"
    level = Level.FAIL if phase in {"Failed", "Blocked"} else Level.OK
    advice = "" if level is Level.OK else f"llmjp status {body['metadata']['name']}"
    yield Diagnosis(check, level, f"is {phase}", advice)
    try:
        model = parse_model(body)
    except InvalidModel as exc:
        message = f"not a valid model for this release: {exc}"
        yield Diagnosis(
            check, Level.FAIL, message, "fix the spec, or use the llmjp of the operator's release"
        )
        return
    yield from _check_gpus(check, model, overview)
    yield from _check_claims(check, model, overview)
    for kind, name in list_references(body):
        answer = overview.exists.get((kind, name), Unknown("it was not read"))
        yield _check_existence(check, f"{kind} {name}", answer)


def _check_gpus(check: str, model: Model, overview: ClusterOverview) -> Iterator[Diagnosis]:
    from llmjp_operator.decide.placement import select_nodes
    from llmjp_operator.observe.parsing import parse_node

    spec = model.spec
    need = max(spec.serving_gpus, spec.build_gpus)
    if not need:
        return
    if isinstance(overview.nodes, Unknown):
        yield report_unknown(f"{check}: GPUs", overview.nodes)
        return
    facts = [parse_node(node) for node in overview.nodes]
    kind = spec.hardware.gpu_product or "any kind"
    uses = (
        ("serve", spec.serving_gpus, spec.serving.node_selector),
        ("build", spec.build_gpus, spec.build.node_selector),
    )
    for verb, gpus, selector in uses:
        if not gpus:
            continue
        most = max((node.gpus for node in select_nodes(spec, facts, selector)), default=0)
        message = f"{gpus} GPUs ({kind}) on one node to {verb}: a node has up to {most}"
        products = ", ".join(sorted({n.gpu_product for n in facts if n.gpu_product})) or "none"
        advice = f"kinds in this cluster: {products}; `llmjp plan` says what fits where"
        enough = most >= gpus
        level = Level.OK if enough else Level.FAIL
        yield Diagnosis(f"{check}: GPUs", level, message, "" if enough else advice)


def _check_claims(check: str, model: Model, overview: ClusterOverview) -> Iterator[Diagnosis]:
    volume, existing = model.spec.source.persistent_volume_claim, model.spec.storage.existing_claim
    for name in filter(None, (volume.claim_name if volume else None, existing)):
        if isinstance(overview.claims, Unknown):
            yield report_unknown(f"{check}: claim {name}", overview.claims)
            continue
        names = {claim["metadata"]["name"] for claim in overview.claims}
        yield _check_existence(check, f"claim {name}", name in names)
    if isinstance(overview.claims, Unknown):
        return
    made = next(
        (c for c in overview.claims if c["metadata"]["name"] == f"{model.name}-store"), None
    )
    if made is not None and (made.get("status") or {}).get("phase") == "Lost":
        message = f"its volume is gone: claim {model.name}-store is Lost"
        yield Diagnosis(check, Level.FAIL, message, "restore the volume, or delete claim and model")


def _check_existence(check: str, what: str, answer: bool | Unknown) -> Diagnosis:
    if isinstance(answer, Unknown):
        return report_unknown(f"{check}: {what}", answer)
    if answer:
        return Diagnosis(f"{check}: {what}", Level.OK, "exists")
    advice = "create it in the model's namespace, or fix the model"
    return Diagnosis(
        f"{check}: {what}", Level.FAIL, "does not exist: pods are waiting for it", advice
    )
