"""Which artefacts are collected from a store: old ones of models that keep fewer. Pure.

What anybody needs stays: what a pod has mounted, what serves or is to serve, and of every model as
many as `keepEngines` says. Artefacts that no model's history has are not touched: a model that was
deleted may come back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_operator.desired.storage import claim_name
from llmjp_operator.names import collect_job, digest

if TYPE_CHECKING:
    from llmjp_operator.api import Model
    from llmjp_operator.facts import Facts
    from llmjp_operator.records import Record
    from llmjp_operator.state import State


def collecting(model: Model, facts: Facts, here: State) -> tuple[frozenset[str], tuple[str, ...]]:
    """Keys whose removal is done, and those to remove now.

    Nothing is removed while the model itself is on its way to something else.
    """
    keys = superfluous(facts, here.record)
    if not keys or not _is_settled(model, facts, here):
        return frozenset(), ()
    job = facts.jobs.get(collection_job(model, keys))
    if job is None:
        return frozenset(), keys
    return (frozenset(keys), ()) if job.succeeded else (frozenset(), ())


def superfluous(facts: Facts, record: Record) -> tuple[str, ...]:
    """Keys of artefacts that some model served, and that none keeps or uses; sorted."""
    known = {built.key for built in record.artefacts.values()}
    kept = {pod.key for pod in facts.pods if pod.key}
    served: set[str] = set()
    for model in facts.sharing:
        keys = list(dict.fromkeys(e.key for e in reversed(record.history.get(model.name, ()))))
        served.update(keys)
        kept.update(keys[: model.spec.storage.keep_engines])
        engine = model.status.engine
        kept.update(filter(None, (engine.key, engine.active, engine.previous)))
    return tuple(sorted((served & known) - kept))


def collection_job(model: Model, keys: tuple[str, ...]) -> str:
    """Name of the Job that removes these artefacts."""
    return collect_job(digest(" ".join((claim_name(model), *keys))))


def _is_settled(model: Model, facts: Facts, here: State) -> bool:
    live = facts.deployment
    return (
        here.built is not None
        and here.problem is None
        and here.choice is not None
        and not here.choice.taken_back
        and live is not None
        and live.complete
        and live.pods == here.pods
        and model.status.engine.active == here.built.key
    )
