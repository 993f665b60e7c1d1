"""Which artefacts are collected from a store: old ones of models that keep fewer. Pure.

What anybody needs stays: what a pod has mounted, what serves or is to serve, and of every model as
many as `keepEngines` says. Artefacts that no model's history has are not touched: a model that was
deleted may come back. With the last artefact that was made from them go a download and, of engines,
a checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_builder.contracts.spec import download_name
from llmjp_operator.names import collect_job, digest

if TYPE_CHECKING:
    from llmjp_operator.api import Model
    from llmjp_operator.decide.decision import Decision
    from llmjp_operator.observe.snapshot import Snapshot
    from llmjp_operator.observe.store_record import StoreRecord


def collecting(
    model: Model, snapshot: Snapshot, decision: Decision
) -> tuple[frozenset[str], tuple[str, ...]]:
    """Names in the store whose removal is done, and those to remove now.

    Nothing is removed while the model itself is on its way to something else.
    """
    keys = superfluous(snapshot, decision.record)
    if not keys or not _is_settled(model, snapshot, decision):
        return frozenset(), ()
    job = snapshot.jobs.get(collection_job(model, keys))
    if job is None:
        return frozenset(), keys
    return (frozenset(keys), ()) if job.succeeded else (frozenset(), ())


def superfluous(snapshot: Snapshot, record: StoreRecord) -> tuple[str, ...]:
    """Artefacts that some model served, and that none keeps or uses, with what only they need."""
    gone = _artefacts(snapshot, record)
    left = {
        name for built in record.artefacts.values() if built.key in gone for name in built.made_from
    }
    stays = [built for built in record.artefacts.values() if built.key not in gone]
    needed = {name for built in stays for name in (built.key, *built.made_from)}
    needed.update(download_name(pinned.found.digest) for pinned in record.sources.values())
    return tuple(sorted(gone | (left - needed)))


def _artefacts(snapshot: Snapshot, record: StoreRecord) -> set[str]:
    """Keys."""
    known = {built.key for built in record.artefacts.values()}
    kept = {pod.key for pod in snapshot.pods if pod.key}
    served: set[str] = set()
    for model in snapshot.sharing:
        keys = list(dict.fromkeys(e.key for e in reversed(record.history.get(model.name, ()))))
        served.update(keys)
        kept.update(keys[: model.spec.storage.keep_engines])
        engine = model.status.engine
        kept.update(filter(None, (engine.key, engine.active, engine.previous)))
    return (served & known) - kept


def collection_job(model: Model, keys: tuple[str, ...]) -> str:
    """Name of the Job that removes these artefacts."""
    return collect_job(digest(" ".join((model.store_claim, *keys))))


def _is_settled(model: Model, snapshot: Snapshot, decision: Decision) -> bool:
    live = snapshot.deployment
    return (
        decision.built is not None
        and decision.problem is None
        and decision.choice is not None
        and not decision.choice.rolled_back
        and live is not None
        and live.complete
        and live.pods == decision.pods
        and model.status.engine.active == decision.built.key
    )
