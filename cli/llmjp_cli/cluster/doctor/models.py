"""What `llmjp doctor` judges about models: whether what they name is there. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmjp_cli.cluster.doctor.checks import Finding, Level, Unknown, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmjp_cli.cluster.doctor.checks import Found
    from llmjp_operator.api import Model

Object = dict[str, Any]


def models(found: Found) -> list[Finding]:
    """All models of the namespace."""
    if isinstance(found.models, Unknown):
        return [unknown("models", found.models)]
    if not found.models:
        return [Finding("models", Level.OK, f"none in namespace {found.namespace}")]
    return [finding for body in found.models for finding in _model(body, found)]


def named(body: Object) -> list[tuple[str, str]]:
    """Kind and name of the Secrets and ConfigMaps that a model needs."""
    spec = body.get("spec") or {}
    hub = (spec.get("source") or {}).get("huggingFace") or {}
    tls = (spec.get("serving") or {}).get("tls") or {}
    texts = ((spec.get("engine") or {}).get("calibration") or {}).get("configMapRef") or {}
    wanted = (
        ("Secret", (hub.get("tokenSecretRef") or {}).get("name")),
        ("Secret", (hub.get("caSecretRef") or {}).get("name")),
        ("Secret", tls.get("secretName")),
        ("ConfigMap", texts.get("name")),
    )
    return [(kind, name) for kind, name in wanted if name]


def _model(body: Object, found: Found) -> Iterator[Finding]:
    from llmjp_operator.api import parse
    from llmjp_operator.errors import InvalidModel

    check = f"model {body['metadata']['name']}"
    phase = (body.get("status") or {}).get("phase") or "Pending"
    level = Level.FAIL if phase in {"Failed", "Blocked"} else Level.OK
    mend = "" if level is Level.OK else f"llmjp status {body['metadata']['name']}"
    yield Finding(check, level, f"is {phase}", mend)
    try:
        model = parse(body)
    except InvalidModel as exc:
        message = f"this release does not understand it: {exc}"
        yield Finding(check, Level.FAIL, message, "mend the spec, or use the operator's llmjp")
        return
    yield from _gpus(check, model, found)
    yield from _claims(check, model, found)
    for kind, name in named(body):
        answer = found.exists.get((kind, name), Unknown("it was not looked at"))
        yield _existence(check, f"{kind} {name}", answer)


def _gpus(check: str, model: Model, found: Found) -> Iterator[Finding]:
    from llmjp_operator.decide.placement import suitable
    from llmjp_operator.observe.parsing import node_fact

    spec = model.spec
    need = max(spec.serving_gpus, spec.build_gpus)
    if not need:
        return
    if isinstance(found.nodes, Unknown):
        yield unknown(f"{check}: GPUs", found.nodes)
        return
    facts = [node_fact(node) for node in found.nodes]
    kind = spec.hardware.gpu_product or "any kind"
    uses = (
        ("serve", spec.serving_gpus, spec.serving.node_selector),
        ("build", spec.build_gpus, spec.build.node_selector),
    )
    for verb, gpus, selector in uses:
        if not gpus:
            continue
        most = max((node.gpus for node in suitable(spec, facts, selector)), default=0)
        message = f"{gpus} GPUs ({kind}) on one node to {verb}: a node has up to {most}"
        products = ", ".join(sorted({n.gpu_product for n in facts if n.gpu_product})) or "none"
        mend = f"kinds that are here: {products}; `llmjp plan` says what fits where"
        enough = most >= gpus
        level = Level.OK if enough else Level.FAIL
        yield Finding(f"{check}: GPUs", level, message, "" if enough else mend)


def _claims(check: str, model: Model, found: Found) -> Iterator[Finding]:
    volume, existing = model.spec.source.persistent_volume_claim, model.spec.storage.existing_claim
    for name in filter(None, (volume.claim_name if volume else None, existing)):
        if isinstance(found.claims, Unknown):
            yield unknown(f"{check}: claim {name}", found.claims)
            continue
        names = {claim["metadata"]["name"] for claim in found.claims}
        yield _existence(check, f"claim {name}", name in names)
    if isinstance(found.claims, Unknown):
        return
    made = next((c for c in found.claims if c["metadata"]["name"] == f"{model.name}-store"), None)
    if made is not None and (made.get("status") or {}).get("phase") == "Lost":
        message = f"its volume is gone: claim {model.name}-store is Lost"
        yield Finding(check, Level.FAIL, message, "restore the volume, or remove claim and model")


def _existence(check: str, what: str, answer: bool | Unknown) -> Finding:
    if isinstance(answer, Unknown):
        return unknown(f"{check}: {what}", answer)
    if answer:
        return Finding(f"{check}: {what}", Level.OK, "is there")
    mend = "create it in the model's namespace, or mend the model"
    return Finding(f"{check}: {what}", Level.FAIL, "does not exist: pods wait for it", mend)
