"""Snapshots for reconciles: most of one is in the cache, calls read only what is not watched."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from llmjp_builder.contracts.errors import BuilderError
from llmjp_builder.contracts.spec import Progress
from llmjp_operator.act.warning_reader import WarningReader
from llmjp_operator.api import Model
from llmjp_operator.decide.job_results import find_unexplained_builds
from llmjp_operator.decide.requeue import PROGRESS_EVERY_S
from llmjp_operator.errors import OperatorError
from llmjp_operator.names import MODEL_LABEL, compute_digest
from llmjp_operator.observe.ownership import is_ours, parse_ownership
from llmjp_operator.observe.parsing import parse_claim, parse_node
from llmjp_operator.observe.revision import Revision
from llmjp_operator.observe.snapshot import (
    CalibrationTexts,
    ObjectRef,
    ObservedClaim,
    ObservedDeployment,
    ObservedJob,
    ObservedPod,
    Snapshot,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llmjp_builder.contracts.spec import Step
    from llmjp_operator.act.api_client import Cluster
    from llmjp_operator.observe.cache import CachedObject, ObjectCache
    from llmjp_operator.observe.snapshot import ObservedNode

Object = dict[str, Any]

NODES_EVERY_S: Final = 15.0
"""How long a list of the nodes is good for."""
FORGET_S: Final = 600.0
"""After how long the progress of a build that nobody asks for is forgotten."""
LOG_LINES: Final = 20
"""Lines of a build's log in which to find its last progress."""


@dataclass(slots=True)
class AppliedDigests:
    """Digests of what was applied and reads back differently, as a webhook changed it.

    Without them such an object would be applied again in every reconcile.
    """

    _known: dict[tuple[str, str, str], tuple[str, str]] = field(default_factory=dict)
    """Digest of what was applied, and of what was read."""

    def note(self, where: tuple[str, str, str], *, applied: str, read: str) -> None:
        """Note what was applied to an object, by kind, namespace and name, and what was read."""
        if applied == read:
            self._known.pop(where, None)
        else:
            self._known[where] = (applied, read)

    def translate(self, where: tuple[str, str, str], read: str) -> str:
        """Return the digest of what was applied, if the object is still what was read then."""
        applied, known = self._known.get(where, ("", ""))
        return applied if known and known == read else read


@dataclass(slots=True)
class SnapshotReader:
    """Takes snapshots. What calls have read is kept for a while."""

    cache: ObjectCache
    cluster: Cluster
    applied: AppliedDigests
    wall_time: Callable[[], float]
    """Seconds since 1970."""
    monotonic_time: Callable[[], float]
    """Seconds, for pauses."""
    _nodes: tuple[float, tuple[ObservedNode, ...] | None] | None = None
    _progress: dict[str, tuple[float, Progress | None]] = field(default_factory=dict)
    """By uid of the Job: when its pod's log was read, and the last progress in it."""

    _warnings: WarningReader = field(init=False)

    def __post_init__(self) -> None:
        self._warnings = WarningReader(self.cluster, self.monotonic_time)

    async def take(self, model: Model) -> Snapshot:
        """Return what is known of a model and its store."""
        cached = list(self.cache.list_objects(model))
        values = [(ref, entry.value) for ref, entry in cached]
        pods = tuple(value for _, value in values if isinstance(value, ObservedPod))
        claims = {value.name: value for _, value in values if isinstance(value, ObservedClaim)}
        jobs = {value.name: value for _, value in values if isinstance(value, ObservedJob)}
        deployments = {ref.name: v for ref, v in values if isinstance(v, ObservedDeployment)}
        revisions = [v for _, v in values if isinstance(v, Revision)]
        snapshot = Snapshot(
            now=self.wall_time(),
            sharing=self._list_sharing(model),
            record=self.cache.get_record(model),
            model_names=self.cache.list_names(model.namespace),
            jobs=jobs,
            pods=pods,
            deployment=deployments.get(model.name),
            upgrading=self.cache.count_rolling(model),
            revisions=tuple(sorted(revisions, key=lambda revision: revision.number)),
            claims=claims | await self._read_foreign_claims(model),
            nodes=await self.read_nodes(model),
            texts=await self._read_texts(model),
            progress=self._get_progress(model, jobs.values(), pods),
            live=dict(self._digest_objects(model, cached)),
            uids={ref: entry.uid for ref, entry in cached},
            taken=await self._read_taken(model),
        )
        snapshot = await self._warnings.add_warnings(model, snapshot)
        return replace(snapshot, last_steps=await self._read_last_steps(model, snapshot))

    async def read_nodes(
        self, model: Model, max_age_s: float = NODES_EVERY_S
    ) -> tuple[ObservedNode, ...] | None:
        """Return the nodes; None where their GPUs decide nothing, or they may not be listed."""
        if not model.spec.serving_gpus:
            return None
        now = self.monotonic_time()
        if self._nodes is None or now - self._nodes[0] > max_age_s:
            nodes = await self.cluster.list_nodes()
            known = None if nodes is None else tuple(parse_node(node) for node in nodes)
            self._nodes = (now, known)
        return self._nodes[1]

    def _list_sharing(self, model: Model) -> tuple[Model, ...]:
        models = (self.cache.models.get(key) for key in self.cache.list_models_of_store(model))
        return tuple(m for m in models if isinstance(m, Model) and not m.deleting)

    def _digest_objects(
        self, model: Model, cached: Iterable[tuple[ObjectRef, CachedObject]]
    ) -> Iterable[tuple[ObjectRef, str]]:
        """Yield the model's own objects, each with the digest of what we own of it."""
        own_group = (model.namespace, MODEL_LABEL, model.name)
        for ref, entry in cached:
            if ref.kind != "Pod" and own_group in entry.groups:
                where = (ref.kind, model.namespace, ref.name)
                yield ref, self.applied.translate(where, entry.digest)

    async def _read_taken(self, model: Model) -> frozenset[ObjectRef]:
        """Return which of the names that were taken still are."""
        for ref in self.cache.list_taken(model):
            body = await self.cluster.get(ref.kind, model.namespace, ref.name)
            if body is None or is_ours(ref, parse_ownership(body), model):
                self.cache.forget_taken(model, ref)
        return frozenset(self.cache.list_taken(model))

    async def _read_foreign_claims(self, model: Model) -> dict[str, ObservedClaim]:
        volume = model.spec.source.persistent_volume_claim
        names = {model.spec.storage.existing_claim, volume.claim_name if volume else None}
        claims = {}
        for name in sorted(filter(None, names)):
            body = await self.cluster.get("PersistentVolumeClaim", model.namespace, name)
            if body is not None:
                claims[name] = parse_claim(body)
        return claims

    async def _read_texts(self, model: Model) -> CalibrationTexts | None:
        calibration = model.spec.engine.calibration
        ref = None if calibration is None else calibration.config_map_ref
        if ref is None:
            return None
        config_map = await self.cluster.get("ConfigMap", model.namespace, ref.name)
        if config_map is None:
            return CalibrationTexts(digest="", problem=f"there is no ConfigMap {ref.name}")
        text = (config_map.get("data") or {}).get(ref.key)
        if text is None:
            problem = f"the ConfigMap {ref.name} has no key {ref.key}"
            return CalibrationTexts(digest="", problem=problem)
        return CalibrationTexts(digest=compute_digest(text))

    async def poll_progress(self, model: Model) -> None:
        """Read the log of the build that the model waits for, if it is time to.

        A node may take long to answer: the lock of a store must not be held meanwhile.
        """
        values = [entry.value for _, entry in self.cache.list_objects(model)]
        jobs = [value for value in values if isinstance(value, ObservedJob)]
        pod = _find_running_build(model, jobs, (v for v in values if isinstance(v, ObservedPod)))
        now = self.monotonic_time()
        if pod is None:
            return
        read_at, progress = self._progress.get(pod.job, (-PROGRESS_EVERY_S, None))
        if now - read_at < PROGRESS_EVERY_S:
            return
        self._forget_old_progress(now)
        self._progress[pod.job] = (now, progress)  # Nobody else reads it meanwhile.
        log = await self.cluster.read_log(model.namespace, pod.name, pod.container, LOG_LINES)
        self._progress[pod.job] = (now, parse_last_progress(log) or progress)

    def _get_progress(
        self, model: Model, jobs: Iterable[ObservedJob], pods: Iterable[ObservedPod]
    ) -> Progress | None:
        """Return the last progress of the build that the model waits for, as it was polled."""
        pod = _find_running_build(model, jobs, pods)
        return None if pod is None else self._progress.get(pod.job, (0.0, None))[1]

    async def _read_last_steps(self, model: Model, snapshot: Snapshot) -> dict[str, Step]:
        """Return the last step of builds that ended without a word, by uid of the Job."""
        steps = {}
        for job, pod in find_unexplained_builds(snapshot):
            _, progress = self._progress.get(job.uid, (0.0, None))
            if pod is not None and pod.termination is not None and not pod.evicted:
                progress = await self._read_last_progress(model, pod) or progress
            if progress is not None:
                steps[job.uid] = progress.step
        return steps

    async def _read_last_progress(self, model: Model, pod: ObservedPod) -> Progress | None:
        """Return the last progress in the log of a pod that ended; None where it cannot be read.

        A node that does not answer must not keep the failure from being recorded.
        """
        try:
            log = await self.cluster.read_log(model.namespace, pod.name, pod.container, LOG_LINES)
        except OperatorError:
            return None
        return parse_last_progress(log)

    def _forget_old_progress(self, now: float) -> None:
        old = [name for name, (at, _) in self._progress.items() if now - at > FORGET_S]
        for name in old:
            del self._progress[name]


def _find_running_build(
    model: Model, jobs: Iterable[ObservedJob], pods: Iterable[ObservedPod]
) -> ObservedPod | None:
    """Return the pod of the build that the model waits for, if it runs."""
    builds = {job.uid for job in jobs if model.uid in job.owners and job.request}
    running = (p for p in pods if p.job in builds and p.phase == "Running" and not p.deleting)
    return next(running, None)


def parse_last_progress(log: str) -> Progress | None:
    """Return the progress in the last line of a build's log that tells one (pure)."""
    for line in reversed(log.splitlines()):
        try:
            return Progress.from_json(json.loads(line))
        except (ValueError, BuilderError):
            continue
    return None
