"""Garbage collection of a store: old artefacts of models that keep fewer. Pure.

What anybody needs stays: what a pod has mounted, what serves or is to serve, and of every model as
many as `keepEngines` says. Of a model that was deleted nothing stays that no other model of the
store needs. With the last artefact that was made from them go a download and, of engines, a
checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_builder.contracts.spec import name_download
from llmjp_operator.decisions import GarbageDecision
from llmjp_operator.names import compute_digest, make_collect_job_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmjp_builder.contracts.spec import Built
    from llmjp_operator.api import Model
    from llmjp_operator.decisions import Decision
    from llmjp_operator.observe.snapshot import ObservedJob, Snapshot
    from llmjp_operator.observe.store_record import StoreRecord


def decide_garbage(model: Model, snapshot: Snapshot, decision: Decision) -> GarbageDecision:
    """Return what to remove from the store now, and whose removal is done.

    Nothing is removed while the model itself is on its way to something else.
    """
    names = find_garbage(snapshot, decision.record)
    if not names or not _is_settled(model, snapshot, decision):
        return GarbageDecision()
    name = name_collect_job(model, names)
    job = snapshot.jobs.get(name)
    if job is None:
        return GarbageDecision(remove=names, job=name)
    if not job.succeeded:
        return GarbageDecision()
    removed = frozenset(names)
    spent = tuple(_find_spent_jobs(snapshot, decision.record, removed))
    return GarbageDecision(removed=removed, spent_jobs=spent)


def find_garbage(snapshot: Snapshot, record: StoreRecord) -> tuple[str, ...]:
    """Return artefacts that some model served and none keeps or uses, with what only they need."""
    garbage = _find_old_artefacts(snapshot, record)
    old = [built for built in record.artefacts.values() if built.key in garbage]
    kept = [built for built in record.artefacts.values() if built.key not in garbage]
    needed = {name for built in kept for name in _list_parts(built, record)}
    needed.update(
        name_download(pinned.found.digest)
        for name, pinned in record.sources.items()
        if name in snapshot.model_names
    )
    made_from = {name for built in old for name in _list_parts(built, record)}
    return tuple(sorted(garbage | (made_from - needed)))


def _list_parts(built: Built, record: StoreRecord) -> Iterator[str]:
    """Yield an artefact's key, what it was made from, and what that was made from."""
    yield built.key
    yield from built.made_from
    for checkpoint in record.checkpoints.values():
        if checkpoint.key in built.made_from:
            yield from checkpoint.made_from


def _find_old_artefacts(snapshot: Snapshot, record: StoreRecord) -> set[str]:
    """Return keys."""
    known = {built.key for built in record.artefacts.values()}
    kept = {pod.key for pod in snapshot.pods if pod.key}
    served: set[str] = set()
    for model in snapshot.sharing:
        keys = list(dict.fromkeys(e.key for e in reversed(record.history.get(model.name, ()))))
        served.update(keys)
        kept.update(keys[: model.spec.storage.keep_engines])
        engine = model.status.engine
        kept.update(filter(None, (engine.key, engine.active, engine.previous)))
    for name in record.history.keys() - snapshot.model_names:
        served.update(entry.key for entry in record.history[name])
    return (served & known) - kept


def name_collect_job(model: Model, names: tuple[str, ...]) -> str:
    """Return the name of the Job that removes these names from the model's store."""
    return make_collect_job_name(compute_digest(" ".join((model.store_claim, *names))))


def _find_spent_jobs(
    snapshot: Snapshot, record: StoreRecord, removed: frozenset[str]
) -> Iterator[ObservedJob]:
    for job in snapshot.jobs.values():
        known = record.checkpoints if job.until_checkpoint else record.artefacts
        built = known.get(job.request)
        if job.finished and built is not None and built.key in removed:
            yield job


def _is_settled(model: Model, snapshot: Snapshot, decision: Decision) -> bool:
    """Return whether the model serves what it asks for, and nothing is under way."""
    live = snapshot.deployment
    return (
        decision.artefact is not None
        and decision.problem is None
        and decision.rollout is not None
        and not decision.rollout.rolled_back
        and live is not None
        and live.complete
        and live.pods == decision.pod_digest
        and model.status.engine.active == decision.artefact.key
    )
