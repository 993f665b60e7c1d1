"""What one look at the cluster found, as far as a model is concerned. Values only.

`llmjp_operator.observe.parsing` makes them of the API server's objects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_builder.contracts.spec import Progress, Step
    from llmjp_operator.api import Model
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
    """A container that ended."""

    exit_code: int
    reason: str
    """Kubernetes' word: Completed, Error, OOMKilled, ..."""
    message: str
    """What it left in its termination message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedPod:
    """A pod of ours."""

    name: str
    component: str
    model: str
    """Empty on pods of a store's Jobs."""
    job: str
    """uid of the Job it is of; empty for pods that serve."""
    key: str
    """Of the artefact that it serves; empty for pods of Jobs."""
    phase: str
    """Kubernetes' own: Pending, Running, Succeeded, Failed, Unknown."""
    ready: bool
    deleting: bool
    node: str
    """Empty while it is not scheduled."""
    waiting: str
    """Why it does not run, in Kubernetes' words; empty where it does."""
    restarts: int
    termination: Termination | None
    """How its main container ended, now or the last time."""
    evicted: bool
    """Taken away by the cluster, not by an error of its own."""

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
    """Digest of what it builds; empty on other Jobs."""
    attempt: int
    owners: frozenset[str]
    """uids."""
    succeeded: bool
    failed: bool
    failure_reason: str
    """Kubernetes' word, such as DeadlineExceeded."""
    finished_at: float | None
    """When it succeeded or failed, in seconds since 1970."""
    deleting: bool

    @property
    def finished(self) -> bool:
        """Whether its pod will not run again."""
        return self.succeeded or self.failed


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedDeployment:
    """A model's Deployment."""

    observed: bool
    """Whether its controller has seen the last change."""
    key: str
    """Of the artefact in its pod template."""
    pods: str
    """Digest of its pod template, as the operator wrote it."""
    failed_rollout: str
    """Digest of pods that were tried and taken back; empty where there are none."""
    wanted: int
    replicas: int
    updated: int
    ready: int
    available: int
    stalled: str
    """Kubernetes' sentence, once the pods did not become ready in time."""

    @property
    def complete(self) -> bool:
        """Whether all pods that are wanted run the pod template, and no other does."""
        return (
            self.observed
            and self.updated == self.wanted == self.replicas
            and self.available >= self.wanted
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedClaim:
    """The claim of a store, or of a source."""

    name: str
    phase: str
    access_modes: tuple[str, ...]
    deleting: bool = False
    resizing: str = ""
    """Why it does not have the size that is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedNode:
    """A node, as far as placing pods is concerned."""

    name: str
    labels: Mapping[str, str]
    gpus: int
    """That its device plugin offers."""
    schedulable: bool

    @property
    def gpu_product(self) -> str:
        """Of GPU feature discovery; empty where it does not run."""
        return self.labels.get("nvidia.com/gpu.product", "")

    @property
    def compute_capability(self) -> str:
        """Likewise: `9.0`."""
        major = self.labels.get("nvidia.com/gpu.compute.major", "")
        minor = self.labels.get("nvidia.com/gpu.compute.minor", "")
        return f"{major}.{minor}" if major and minor else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationTexts:
    """The ConfigMap with calibration texts."""

    digest: str
    """Of the texts; empty where they are missing."""
    problem: str = ""
    """Why they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that a model's next step depends on, besides the model and the settings."""

    now: float
    """Seconds since 1970."""
    sharing: tuple[Model, ...]
    """All models on the same store, this one included, by name; none that is being deleted."""
    record: StoreRecord
    jobs: Mapping[str, ObservedJob] = field(default_factory=dict)
    """Of this model and its store, by name."""
    pods: tuple[ObservedPod, ...] = ()
    """Of this model and its store, by name."""
    deployment: ObservedDeployment | None = None
    claims: Mapping[str, ObservedClaim] = field(default_factory=dict)
    """That exist, of those that the model names."""
    nodes: tuple[ObservedNode, ...] | None = None
    """None where they may not be looked at, or need not."""
    texts: CalibrationTexts | None = None
    """None where the model names no texts."""
    progress: Progress | None = None
    """The last that the running build said."""
    last_steps: Mapping[str, Step] = field(default_factory=dict)
    """Of builds that ended without a termination message: the last step in their log, by the Job's
    uid."""
    live: Mapping[ObjectRef, str] = field(default_factory=dict)
    """Digests of what the operator owns of every object that exists (`managed_fields`)."""
