"""Jobs and pods of a model that wait: which do not say why, and what is known of it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_operator.decide.job_results import list_pods

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmjp_operator.api import Model
    from llmjp_operator.observe.snapshot import ObservedJob, ObservedPod, Snapshot


def find_silent(model: Model, snapshot: Snapshot) -> Iterator[ObservedJob | ObservedPod]:
    """Yield the model's Jobs and pods that wait and do not say why: their events do.

    These are Jobs whose pod could not be created, and pods that are on a node and do not start.
    """
    jobs = [job for job in snapshot.jobs.values() if _is_unfinished(job, model)]
    yield from (job for job in jobs if not any(list_pods(job, snapshot)))
    uids = {job.uid for job in jobs}
    for pod in snapshot.pods:
        ours = pod.job in uids if pod.job else pod.model == model.name
        if ours and pod.phase == "Pending" and not pod.deleting and not pod.waiting:
            yield pod


def needs_another_look(snapshot: Snapshot) -> bool:
    """Return whether events, which are not watched, may tell more about what waits.

    Serving pods that were given up are not asked again: their rollout ended with a reason.
    """
    live = snapshot.deployment
    pods = [pod for pod in snapshot.pods if pod.uid in snapshot.silent]
    serving = [pod for pod in pods if not pod.job]
    return len(serving) < len(snapshot.silent) or (
        bool(serving) and live is not None and live.rolling
    )


def explain_job(job: ObservedJob, snapshot: Snapshot) -> str:
    """Return why a Job's pod does not run, in Kubernetes' words; empty if it is not known."""
    words = (job.waiting, *(pod.waiting for pod in list_pods(job, snapshot)))
    return next(filter(None, words), "")


def _is_unfinished(job: ObservedJob, model: Model) -> bool:
    ours = model.uid in job.owners or job.model == model.name
    return ours and not job.finished and not job.deleting
