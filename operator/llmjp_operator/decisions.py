"""Values that the rooms pass on: `decide` makes them, `render` and `report` read them.

The rooms import none of each other; `plan` hands these over. Every value is about one model, unless
it says something else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from llmjp_builder.contracts.spec import BuildSpec, Built, Resolution
    from llmjp_operator.api import Model
    from llmjp_operator.observe.revision import Revision, RevisionInputs
    from llmjp_operator.observe.snapshot import ObservedJob
    from llmjp_operator.observe.store_record import FailedAttempts, StoreRecord

RESOLVE_LIMIT_S: Final = 3600
"""Deadline of resolve Jobs: hashing a folder of 345 GB (172b) takes an hour at 100 MB/s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A reason to begin nothing new, until a person does something."""

    reason: str
    """One word, for programs."""
    message: str
    """For people: what is wrong, and what to do."""


class JobStage(Enum):
    """Progress of a Job that pins or builds."""

    STARTING = "starting"
    """The Job is to be created, or an earlier one is being deleted."""
    RUNNING = "running"
    """The Job exists and has not finished."""
    ENDING = "ending"
    """The Job finished; its termination message was not seen yet."""
    PAUSED = "paused"
    """The Job failed and will be tried again."""
    FAILED = "failed"
    """The Job failed and will not be tried again as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDecision:
    """A Job whose result is needed: how far it is, and what to do about it."""

    job: str
    """Name of the Job."""
    stage: JobStage
    attempt: int
    """Number of the current or next attempt, from 1."""
    failed: FailedAttempts | None = None
    """Earlier attempts at the same thing."""
    due: float | None = None
    """When to try or look again, in seconds since 1970."""
    waiting: str = ""
    """Why the Job's pod does not run, in Kubernetes' words."""
    create: bool = False
    """Whether to create the Job now."""
    remove: ObservedJob | None = None
    """A Job of the same name, which is in the way of the next attempt: it is finished, or waits to
    start with other pods than are wanted by now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceEstimate:
    """Needs of building and serving, in bytes; None where they are not known."""

    memory_bytes: int | None = None
    """Memory of the build."""
    disk_bytes: int | None = None
    """Volume of the store when the build is done, the source included."""
    serving_memory_bytes: int | None = None
    """Host memory of a pod that serves."""
    refusal: str | None = None
    """Why it cannot work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One build."""

    digest: str
    """Digest of everything that decides the result's bytes."""
    spec: BuildSpec
    """Input of `llmjp build`, with the source pinned."""
    gpus: int
    """GPUs of the pod that builds."""
    until_checkpoint: bool = False
    """Whether to make what an engine is compiled from, which is a request of its own."""
    checkpoint: str | None = None
    """Key of the checkpoint that an engine is compiled from; None to begin with the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An artefact that could be rolled out, and all that its pods are rendered from."""

    model: Model
    """With the engine, hardware and runtime that the artefact is served by."""
    artefact: Built
    inputs: RevisionInputs
    host_memory_bytes: int | None = None
    """Host memory of a pod; None where it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutDecision:
    """What the Deployment is to run: a revision, or a candidate that becomes one."""

    revision: Revision | None = None
    """None: to be made of the candidate."""
    candidate: Candidate | None = None
    rolled_back: bool = False
    """Whether this served before, and what the spec asks for does not start."""
    failed: Revision | None = None
    """The revision that does not start, to be remembered."""
    held: bool = False
    """Whether somebody asked for this revision, whatever the spec asks for."""
    queued: bool = False
    """Whether a rollout waits for those of other models."""

    @property
    def key(self) -> str:
        """Key of the artefact."""
        if self.revision is not None:
            return self.revision.key
        assert self.candidate is not None
        return self.candidate.artefact.key


@dataclass(frozen=True, slots=True, kw_only=True)
class GarbageDecision:
    """Old artefacts of a store."""

    removed: frozenset[str] = frozenset()
    """Names whose removal is done: the record must forget them."""
    spent_jobs: tuple[ObservedJob, ...] = ()
    """Jobs that built what is removed: read again, their results would bring it back."""
    remove: tuple[str, ...] = ()
    """Names to remove from the store now."""
    job: str = ""
    """Name of the Job that removes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Everything that is decided about a model. No object is rendered for it yet.

    From the spec to pods that answer, each step needs the one before it: the spec is accepted, the
    source pinned, the artefact built, compatible, rolled out. What is not reached is None.
    """

    record: StoreRecord
    """With the results of finished Jobs, and what became ready."""
    single_node: bool = False
    """Whether all pods that mount the store must be on one node."""
    problem: Problem | None = None
    """Why nothing new is begun."""
    resolving: JobDecision | None = None
    """The Job that pins the source; None once it is pinned."""
    resolution: Resolution | None = None
    """The pinned source."""
    estimate: ResourceEstimate = field(default_factory=ResourceEstimate)
    """Needs, once the source is pinned."""
    request: BuildRequest | None = None
    """What is to be built next, once the source is pinned: of an engine, first its checkpoint."""
    building: JobDecision | None = None
    """The Job that builds the artefact; None once it is built."""
    artefact: Built | None = None
    """The artefact that the spec asks for."""
    cache_hit: bool | None = None
    """Whether it was there without a build for this model."""
    incompatible: str | None = None
    """Why it would not load where its pods would go."""
    rollout: RolloutDecision | None = None
    """What to deploy."""
    left_alone: bool = False
    """Whether the Deployment and all that belongs to it stay as they are: what should run is not
    known (the record is lost), or cannot be rendered (its images are known no longer)."""
    closed_to_outside: bool = False
    """Whether the Service is published, and the platform's policy lets in whom it names only."""
    pod_digest: str = ""
    """Digest of the rendered pods of `rollout`."""
    active_key: str | None = None
    """Key of the artefact that answers."""

    @property
    def target(self) -> Built | None:
        """The artefact that the spec asks for, once it is built and compatible."""
        return self.artefact if self.incompatible is None else None

    @property
    def jobs(self) -> tuple[JobDecision, ...]:
        """The Jobs whose results are waited for."""
        return tuple(job for job in (self.resolving, self.building) if job is not None)
