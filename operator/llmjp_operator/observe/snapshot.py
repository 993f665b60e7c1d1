"""A snapshot of the cluster, as far as one model is concerned. Values only.

`llmjp_operator.observe.parsing` makes them from Kubernetes objects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_builder.contracts.spec import Progress, Step
    from llmjp_operator.api import Model
    from llmjp_operator.observe.revision import Revision
    from llmjp_operator.observe.store_record import StoreRecord


@dataclass(frozen=True, slots=True, order=True)
class ObjectRef:
    """An object of ours in the model's namespace."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Termination:
    """How a container terminated."""

    exit_code: int
    reason: str
    """Kubernetes' reason: Completed, Error, OOMKilled, ..."""
    message: str
    """Its termination message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedPod:
    """A pod of ours."""

    name: str
    component: str
    model: str
    """Empty on pods of a store's Jobs."""
    job: str
    """uid of its Job; empty for serving pods."""
    key: str
    """Key of the artefact that it serves; empty for pods of Jobs."""
    phase: str
    """Kubernetes' phase: Pending, Running, Succeeded, Failed, Unknown."""
    ready: bool
    deleting: bool
    node: str
    """Name of its node; empty until it is scheduled."""
    waiting: str
    """Why it does not run, in Kubernetes' words; empty if it runs."""
    restarts: int
    termination: Termination | None
    """How its main container last terminated."""
    evicted: bool
    """Whether the cluster removed it: an eviction, a preemption, a lost node."""
    uid: str = ""

    @property
    def container(self) -> str:
        """Name of the main container."""
        return MAIN_CONTAINERS.get(self.component, "builder")


MAIN_CONTAINERS: Final[Mapping[str, str]] = {"serving": "triton"}
"""By component; the pods of Jobs have one container, `builder`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedJob:
    """A Job of ours."""

    name: str
    uid: str
    component: str
    model: str
    """Empty on Jobs of a store."""
    request: str
    """Digest of the build request; empty on other Jobs."""
    pods: str
    """Digest of its pods, as the operator wrote it; empty on Jobs of older operators."""
    attempt: int
    owners: frozenset[str]
    """uids of its owners."""
    succeeded: bool
    failed: bool
    failure_reason: str
    """Kubernetes' reason, such as DeadlineExceeded."""
    finished_at: float | None
    """When it succeeded or failed, in seconds since 1970."""
    deleting: bool
    created_at: float | None = None
    """In seconds since 1970."""
    waiting: str = ""
    """Why its pod cannot be created, by the Job's events; empty if it is."""
    until_checkpoint: bool = False
    """Whether its result is what an engine is compiled from."""
    checkpoint: str = ""
    """Key of the checkpoint that it compiles; empty if it begins with a source."""

    @property
    def finished(self) -> bool:
        """Whether its pod will not run again."""
        return self.succeeded or self.failed


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedDeployment:
    """A model's Deployment."""

    uid: str
    owners: frozenset[str]
    """uids of its owners."""
    observed: bool
    """Whether its controller has seen the last change."""
    key: str
    """Key of the artefact in its pod template."""
    pods: str
    """Digest of its pod template, as the operator wrote it."""
    failed_rollout: str
    """Digest of the pods that version 0.1.0 rolled back; empty if there are none."""
    wanted: int
    replicas: int
    updated: int
    ready: int
    available: int
    stalled: str
    """Kubernetes' message if the pods did not become ready in time; otherwise empty."""
    refused: str = ""
    """Why pods cannot be created, in Kubernetes' words; empty if they can."""
    template: bytes = b""
    """What we applied of its pod template, packed; empty where that is not known."""
    rolled_out: bool = False
    """Whether its controller has reported that the newest template was rolled out."""
    deadline_s: int = 600
    """Seconds that its pods may take to become ready."""

    @property
    def rolling(self) -> bool:
        """Whether pods are being replaced, and it has not been given up.

        A model that only lost a pod is not: every pod that it has is of the newest template.
        """
        replaced = self.observed and self.updated == self.replicas and self.rolled_out
        return self.wanted > 0 and not self.stalled and not (self.complete or replaced)

    @property
    def complete(self) -> bool:
        """Whether every replica runs the pod template and no other pods exist."""
        return (
            self.observed
            and self.updated == self.wanted == self.replicas
            and self.available >= self.wanted
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedClaim:
    """A PersistentVolumeClaim of a store or a source."""

    name: str
    access_modes: tuple[str, ...]
    uid: str = ""
    created_at: float | None = None
    """In seconds since 1970."""
    deleting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedNode:
    """A node, as far as placing pods is concerned."""

    name: str
    labels: Mapping[str, str]
    gpus: int
    """Number of allocatable GPUs."""
    schedulable: bool

    @property
    def gpu_product(self) -> str:
        """Product of its GPUs, by GPU feature discovery; empty if that does not run."""
        return self.labels.get("nvidia.com/gpu.product", "")

    @property
    def compute_capability(self) -> str:
        """Compute capability, likewise, such as `9.0`."""
        major = self.labels.get("nvidia.com/gpu.compute.major", "")
        minor = self.labels.get("nvidia.com/gpu.compute.minor", "")
        return f"{major}.{minor}" if major and minor else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationTexts:
    """The ConfigMap with calibration texts."""

    digest: str
    """Digest of the texts; empty if they are missing."""
    problem: str = ""
    """Why they are missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that one reconcile depends on, besides the model and the settings."""

    now: float
    """Seconds since 1970."""
    sharing: tuple[Model, ...]
    """All models on the same store by name, with this one but without those being deleted."""
    record: StoreRecord
    model_names: frozenset[str] = frozenset()
    """Names of all models of the namespace, those that cannot be parsed included."""
    jobs: Mapping[str, ObservedJob] = field(default_factory=dict)
    """Those of this model and its store, by name."""
    pods: tuple[ObservedPod, ...] = ()
    """Those of this model and its store, by name."""
    deployment: ObservedDeployment | None = None
    upgrading: int = 0
    """Number of other models that are being rolled out, or are about to be."""
    revisions: tuple[Revision, ...] = ()
    """The model's, by number."""
    claims: Mapping[str, ObservedClaim] = field(default_factory=dict)
    """Existing claims among those that the model names."""
    nodes: tuple[ObservedNode, ...] | None = None
    """None if they may not be read, or need not be."""
    texts: CalibrationTexts | None = None
    """None if the model names no texts."""
    progress: Progress | None = None
    """Latest progress of the running build."""
    silent: frozenset[str] = frozenset()
    """uids of the model's Jobs and pods that wait while nothing that is watched tells why; their
    `waiting` is from events."""
    last_steps: Mapping[str, Step] = field(default_factory=dict)
    """Of builds that ended without a termination message: the last step in their log, by the Job's
    uid."""
    taken: frozenset[ObjectRef] = frozenset()
    """Objects of somebody else that have the names of the model's own."""
    uids: Mapping[ObjectRef, str] = field(default_factory=dict)
    """uids of the objects in `live`."""
    live: Mapping[ObjectRef, str] = field(default_factory=dict)
    """Digests of the managed fields of every existing object (`managed_fields`)."""
