"""Which artefact the Deployment runs now. Pure.

The artefact that the spec asks for, once it is there and fits; until then what served last, by the
part of the spec that it was served by, so that scaling and serving settings work meanwhile. Where
no GPU is free for a new pod beside the old one (maxSurge 0), pods that do not become ready are
taken back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmjp_operator.observe.store_record import ServedArtefact

if TYPE_CHECKING:
    from llmjp_builder.contracts.spec import Built
    from llmjp_operator.api import Model
    from llmjp_operator.observe.snapshot import ObservedDeployment, Snapshot
    from llmjp_operator.observe.store_record import StoreRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutDecision:
    """What to deploy."""

    model: Model
    """With the engine, hardware and runtime that the artefact is served by."""
    built: Built
    failed_rollout: str = ""
    """Digest of pods that are not tried again; see `names.FAILED_ROLLOUT`."""
    rolled_back: bool = False
    """Whether this is what served before, as the artefact that is asked for does not start."""


def served(model: Model, key: str) -> ServedArtefact:
    """What is remembered of an artefact that became ready."""
    spec = model.spec
    return ServedArtefact(key=key, engine=spec.engine, hardware=spec.hardware, runtime=spec.runtime)


def choice(
    model: Model,
    snapshot: Snapshot,
    record: StoreRecord,
    target: Built | None,
    *,
    pods_of_target: str = "",
) -> RolloutDecision | None:
    """What to deploy; None: nothing yet.

    Args:
        model: what is asked for.
        snapshot: the cluster.
        record: of the store.
        target: the artefact that is asked for; None while it is not there, or does not fit.
        pods_of_target: digest of its pods (`desired.serving.pod_digest`); empty without a target.
    """
    live = snapshot.deployment
    if target is None:
        return None if live is None else _last(model, record)
    if model.spec.serving.max_surge == 0 and live is not None:
        stalled_now = live.pods == pods_of_target and bool(live.stalled)
        if stalled_now or live.failed_rollout == pods_of_target:
            before = _last(model, record, besides=served(model, target.key))
            if before is not None:
                return replace(before, failed_rollout=pods_of_target, rolled_back=True)
    return RolloutDecision(model=model, built=target)


def _last(
    model: Model, record: StoreRecord, besides: ServedArtefact | None = None
) -> RolloutDecision | None:
    """What served last and is still there."""
    for entry in reversed(record.history.get(model.name, ())):
        built = record.artefact_of(entry.key)
        if built is not None and entry != besides:
            return RolloutDecision(model=_as_served(model, entry), built=built)
    return None


def _as_served(model: Model, entry: ServedArtefact) -> Model:
    spec = replace(model.spec, engine=entry.engine, hardware=entry.hardware, runtime=entry.runtime)
    return replace(model, spec=spec)


def active_key(snapshot: Snapshot, record: StoreRecord, model: Model) -> str | None:
    """The artefact that answers; during a change the old one, as long as a pod of it is ready."""
    ready = {pod.key for pod in snapshot.pods if pod.model == model.name and pod.key and pod.ready}
    if not ready:
        return None
    last = record.history.get(model.name, ())
    if last and last[-1].key in ready:
        return last[-1].key
    live = snapshot.deployment
    if live is not None and live.key in ready:
        return live.key
    return min(ready)


def became_ready(live: ObservedDeployment | None, pods: str) -> bool:
    """Whether all pods that are wanted run what was deployed last, and at least one does."""
    return live is not None and live.pods == pods and live.complete and live.available > 0
