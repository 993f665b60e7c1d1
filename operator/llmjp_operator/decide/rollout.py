"""Which artefact the Deployment runs now. Pure.

The artefact that the spec asks for, once it is there and fits; until then what served last, by the
part of the spec that it was served by, so that scaling and serving settings work meanwhile. Where
no GPU is free for a new pod beside the old one (maxSurge 0), pods that do not become ready are
taken back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmjp_operator.observe.store_record import Served

if TYPE_CHECKING:
    from llmjp_builder.spec import Built
    from llmjp_operator.api import Model
    from llmjp_operator.observe.snapshot import DeploymentFact, Facts
    from llmjp_operator.observe.store_record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to deploy."""

    model: Model
    """With the engine, hardware and runtime that the artefact is served by."""
    built: Built
    failed_rollout: str = ""
    """Digest of pods that are not tried again; see `names.FAILED_ROLLOUT`."""
    taken_back: bool = False
    """Whether this is what served before, as the artefact that is asked for does not start."""


def served(model: Model, key: str) -> Served:
    """What is remembered of an artefact that became ready."""
    spec = model.spec
    return Served(key=key, engine=spec.engine, hardware=spec.hardware, runtime=spec.runtime)


def choice(
    model: Model, facts: Facts, record: Record, target: Built | None, *, pods_of_target: str = ""
) -> Choice | None:
    """What to deploy; None: nothing yet.

    Args:
        model: what is asked for.
        facts: the cluster.
        record: of the store.
        target: the artefact that is asked for; None while it is not there, or does not fit.
        pods_of_target: digest of its pods (`desired.serving.pod_digest`); empty without a target.
    """
    live = facts.deployment
    if target is None:
        return None if live is None else _last(model, record)
    if model.spec.serving.max_surge == 0 and live is not None:
        stalled_now = live.pods == pods_of_target and bool(live.stalled)
        if stalled_now or live.failed_rollout == pods_of_target:
            before = _last(model, record, besides=served(model, target.key))
            if before is not None:
                return replace(before, failed_rollout=pods_of_target, taken_back=True)
    return Choice(model=model, built=target)


def _last(model: Model, record: Record, besides: Served | None = None) -> Choice | None:
    """What served last and is still there."""
    for entry in reversed(record.history.get(model.name, ())):
        built = record.artefact_of(entry.key)
        if built is not None and entry != besides:
            return Choice(model=_as_served(model, entry), built=built)
    return None


def _as_served(model: Model, entry: Served) -> Model:
    spec = replace(model.spec, engine=entry.engine, hardware=entry.hardware, runtime=entry.runtime)
    return replace(model, spec=spec)


def active_key(facts: Facts, record: Record, model: Model) -> str | None:
    """The artefact that answers; during a change the old one, as long as a pod of it is ready."""
    ready = {pod.key for pod in facts.pods if pod.model == model.name and pod.key and pod.ready}
    if not ready:
        return None
    last = record.history.get(model.name, ())
    if last and last[-1].key in ready:
        return last[-1].key
    live = facts.deployment
    if live is not None and live.key in ready:
        return live.key
    return min(ready)


def became_ready(live: DeploymentFact | None, pods: str) -> bool:
    """Whether all pods that are wanted run what was deployed last, and at least one does."""
    return live is not None and live.pods == pods and live.complete and live.available > 0
