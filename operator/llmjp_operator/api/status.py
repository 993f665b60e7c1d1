"""Status of a model, as the operator writes it."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Literal

from llmjp_builder.contracts.constraints import Items, Length, Range, Timestamp
from llmjp_builder.contracts.spec import Failure, Step


class Phase(StrEnum):
    """State of a model in one word; the conditions say why."""

    PENDING = "Pending"
    """The operator has not seen the model yet."""
    BLOCKED = "Blocked"
    """Nothing happens until a person acts: accepts a licence, fixes the spec."""
    RESOLVING = "Resolving"
    """A Job pins the source to a commit and hashes its files."""
    BUILDING = "Building"
    """A Job builds the engine; the previous one keeps serving."""
    ROLLING_OUT = "RollingOut"
    """Pods are starting, or switching to another engine."""
    SERVING = "Serving"
    """All replicas are ready, on the engine that the spec describes."""
    IDLE = "Idle"
    """The model is scaled to zero, and ready to be scaled up."""
    DEGRADED = "Degraded"
    """Pods serve, but not everything that the spec asks for."""
    FAILED = "Failed"
    """No pod serves, and the last attempt failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One aspect of the model's state, as in the Kubernetes API conventions."""

    type: Annotated[str, Length(1, 316)]
    """`Ready`, `Reconciling`, `Stalled`, `Accepted`, `EngineReady`, `Available`, `Progressing`."""
    status: Literal["True", "False", "Unknown"]
    """Whether the condition holds."""
    observed_generation: int | None = None
    """Generation of the spec that this was judged by."""
    last_transition_time: Annotated[str, Timestamp()]
    """When `status` last changed."""
    reason: Annotated[str, Length(1, 1024)]
    """One word for programs."""
    message: Annotated[str, Length(0, 32768)] = ""
    """A sentence for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    """The pinned source."""

    revision: str | None = None
    """Commit of the repository; absent for a volume."""
    digest: str | None = None
    """Digest of the list of files with their SHA-256."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """Artefacts of the model."""

    key: str | None = None
    """Key of the artefact that the spec asks for."""
    active: str | None = None
    """Key of the artefact that serves."""
    previous: str | None = None
    """Key of the artefact that served before, kept for going back."""
    cache_hit: bool | None = None
    """Whether `key` was already in the store, so that nothing was built."""
    compute_capability: str | None = None
    """Compute capability of the GPUs that `key` was built for."""
    trtllm_version: str | None = None
    """TensorRT-LLM version that `key` was built with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStatus:
    """The build of `status.engine.key`."""

    job: str | None = None
    """Name of the Job."""
    step: Step | None = None
    """Step of the build."""
    percent: Annotated[int, Range(0, 100)] | None = None
    """Percent of this step."""
    eta_seconds: Annotated[int, Range(0, 31_536_000)] | None = None
    """Seconds until this step ends."""
    failure: Failure | None = None
    """Why the build failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Addresses for clients inside the cluster."""

    grpc: str
    """`host:port`."""
    http: str
    """`host:port`; empty with TLS, which Triton's HTTP does not support."""
    model: str
    """Name of the Triton model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Observed state. Only the operator writes it."""

    observed_generation: int | None = None
    """Generation of the spec that this status describes."""
    phase: Phase | None = None
    """State of the model in one word."""
    conditions: Annotated[tuple[Condition, ...], Items(16, "type")] = ()
    """`Ready`: what the spec asks for is there. `Reconciling`: work is under way. `Stalled`: a
    person must do something. `Accepted`: the spec is valid. `EngineReady`: the artefact is in the
    store. `Available`: a pod is ready. `Progressing`: a build or rollout is under way. A sentence
    stands in one of them only: the others with the same reason have no message."""
    source: SourceStatus = field(default_factory=SourceStatus)
    """The pinned source."""
    engine: EngineStatus = field(default_factory=EngineStatus)
    """Artefacts of the model."""
    build: BuildStatus = field(default_factory=BuildStatus)
    """The build of `engine.key`."""
    replicas: Annotated[int, Range(0, 100_000)] | None = None
    """Number of pods."""
    ready_replicas: Annotated[int, Range(0, 100_000)] | None = None
    """Number of ready pods."""
    ready: Annotated[str, Length(0, 32)] | None = None
    """Ready pods of those that the spec asks for, such as `1/2`."""
    selector: str | None = None
    """Label selector of the pods, for autoscalers."""
    endpoint: Endpoint | None = None
    """Addresses for clients inside the cluster."""
