"""Which revision is wanted, which one an upgrade finds, which are kept. Pure; renders nothing."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Final

from llmjp_builder.contracts.spec import to_canonical_json
from llmjp_operator.api import encode_given
from llmjp_operator.api.serving import Serving
from llmjp_operator.names import compute_digest, make_revision_name
from llmjp_operator.observe.revision import UNKNOWN, Revision, RevisionInputs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmjp_operator.api import Model
    from llmjp_operator.decisions import Decision
    from llmjp_operator.observe.snapshot import ObservedDeployment, Snapshot
    from llmjp_operator.settings import Settings

TEMPLATE_REVISION: Final = 1
"""Counts changes of what pods are rendered to from the same inputs. Raise it with such a change
(`tests/operator/render/test_template_revision.py` notices): models that keep what serves do so."""
KEPT: Final = 10
"""Revisions that are kept, as of Deployments."""
_OF_THE_CURRENT_SPEC: Final = frozenset({"Complete", "Downtime", "RollingOut", "RolloutStalled"})
"""Reasons of Progressing with which version 0.1.0 had rolled out what the spec asks for."""
_SCALING: Final = Serving()
"""Source of values for fields that change no pod."""


def compute_spec_digest(model: Model, decision: Decision) -> str:
    """Return the digest of the parts of a spec that pods follow from, besides the artefact.

    Only what is set counts: a new field with a default changes no digest.
    """
    spec = model.spec
    pods = replace(
        spec.serving,
        replicas=_SCALING.replicas,
        max_surge=_SCALING.max_surge,
        service=_SCALING.service,
        upgrade_policy=_SCALING.upgrade_policy,
    )
    given = {
        "engine": encode_given(spec.engine),
        "hardware": encode_given(spec.hardware),
        "runtime": encode_given(spec.runtime),
        "serving": encode_given(pods),
        **({"pods": common} if (common := encode_given(spec.pods)) else {}),
        "claim": model.store_claim,
        "singleNode": decision.single_node,
    }
    return compute_digest(to_canonical_json(given))


def compute_inputs(model: Model, decision: Decision, settings: Settings) -> RevisionInputs | None:
    """Return what the revision that the spec asks for is known by; None before it is built."""
    if decision.target is None:
        return None
    images = settings.images.get(model.spec.serving_flavour)
    platform = {
        "image": None if images is None else images.runtime,
        "pullPolicy": settings.image_pull_policy,
        "pullSecrets": list(settings.image_pull_secrets),
        "users": asdict(settings.pod_users),
        "template": TEMPLATE_REVISION,
    }
    return RevisionInputs(
        key=decision.target.key,
        spec=compute_spec_digest(model, decision),
        platform=compute_digest(to_canonical_json(platform)),
    )


def find_wanted(
    model: Model, revisions: Iterable[Revision], inputs: RevisionInputs, settings: Settings
) -> Revision | None:
    """Return the newest revision that is what the spec asks for; None if it is to be made.

    With policy Keep, another platform (a new operator, other images) is no reason for a rollout of
    what has served. What never became ready is made anew: its image may be what was mended.
    """
    same = [r for r in revisions if (r.key, r.inputs.spec) == (inputs.key, inputs.spec)]
    exact = [r for r in same if r.inputs.platform == inputs.platform]
    keeps = (model.spec.serving.upgrade_policy or settings.upgrade_policy) == "Keep"
    kept = [r for r in same if r.served or r.inputs.platform == UNKNOWN] if keeps else []
    return max(kept or exact, key=lambda r: r.number, default=None)


def find_current(revisions: Iterable[Revision], live: ObservedDeployment | None) -> Revision | None:
    """Return the revision that the Deployment runs."""
    if live is None:
        return None
    return max((r for r in revisions if r.pods == live.pods), key=lambda r: r.number, default=None)


def find_previous(revisions: Iterable[Revision], besides: Revision) -> Revision | None:
    """Return the newest revision that has served, other than one that failed."""
    served = (r for r in revisions if r.served and r.failed is None and r.name != besides.name)
    return max(served, key=lambda r: r.number, default=None)


def adopt_deployment(
    model: Model, snapshot: Snapshot, decision: Decision, inputs: RevisionInputs | None
) -> Revision | None:
    """Return what version 0.1.0 rolled out, which had no revisions, as the first one.

    Its pod template is the one that is live, so that nothing rolls. Whether that is what the spec
    asks for only the status tells; where the spec was edited since, the edit is rolled out.
    """
    live, status = snapshot.deployment, model.status
    if snapshot.revisions or live is None or not live.template:
        return None
    reasons = {c.reason for c in status.conditions if c.type == "Progressing"}
    current = (
        status.observed_generation == model.generation
        and bool(reasons & _OF_THE_CURRENT_SPEC)
        and status.engine.key == live.key
    )
    if current and inputs is None:
        return None  # Soon it is known what the spec asks for.
    history = decision.record.history.get(model.name, ())
    known = RevisionInputs(
        key=live.key,
        spec=inputs.spec if current and inputs is not None else UNKNOWN,
        platform=UNKNOWN,
    )
    return Revision(
        name=make_revision_name(model.name, f"{known.digest} {live.pods}"),
        number=1,
        inputs=known,
        pods=live.pods,
        packed=live.template,
        deadline_s=live.deadline_s,
        made_by="0.1.0",
        served=any(entry.key == live.key for entry in history)
        or (live.complete and live.available > 0),
    )


def find_old_revisions(
    model: Model, snapshot: Snapshot, decision: Decision, removed: frozenset[str]
) -> tuple[Revision, ...]:
    """Return revisions to remove: too old, or of artefacts that are removed from the store.

    What runs, what is wanted, and what a failure goes back to stay, however old they are.

    Args:
        model: whose they are.
        snapshot: the cluster.
        decision: with the record as it will be.
        removed: keys of artefacts that are removed now.
    """
    rollout, live = decision.rollout, snapshot.deployment
    if rollout is None or decision.problem is not None:
        return ()
    known = {built.key for built in decision.record.artefacts.values()}
    remembers = bool(decision.record.history.get(model.name))
    wanted = (rollout.revision, rollout.failed, find_current(snapshot.revisions, live))
    needed = {r.name for r in wanted if r is not None}
    served = [r for r in snapshot.revisions if r.served and r.failed is None]
    needed |= {r.name for r in sorted(served, key=lambda r: -r.number)[:2]}
    newest = sorted(snapshot.revisions, key=lambda r: -r.number)
    return tuple(
        r
        for place, r in enumerate(newest)
        if r.key in removed
        or (r.name not in needed and (place >= KEPT or (remembers and r.key not in known)))
    )
