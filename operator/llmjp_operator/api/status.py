"""What the operator says about a model."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Literal

from llmjp_builder.contracts.constraints import Items, Length, Range, Timestamp
from llmjp_builder.contracts.spec import Failure, Step


class Phase(StrEnum):
    """Where a model is, in one word; the conditions say why."""

    PENDING = "Pending"
    """Not looked at yet."""
    BLOCKED = "Blocked"
    """Nothing goes on before a person does something: accept a licence, mend the spec."""
    RESOLVING = "Resolving"
    """The source is pinned to a commit and hashed."""
    BUILDING = "Building"
    """An engine is built; what served before goes on serving."""
    ROLLING_OUT = "RollingOut"
    """Pods start, or change to another engine."""
    SERVING = "Serving"
    """As many pods as wanted are ready, on the engine that the spec describes."""
    DEGRADED = "Degraded"
    """Something serves, but not all that the spec asks for."""
    FAILED = "Failed"
    """Nothing serves, and what was tried failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One claim about the model, as Kubernetes writes them."""

    type: Annotated[str, Length(1, 316)]
    """`Accepted`, `EngineReady`, `Available` or `Progressing`."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    observed_generation: int | None = None
    """Of the spec that it was judged by."""
    last_transition_time: Annotated[str, Timestamp()]
    """When `status` last changed."""
    reason: Annotated[str, Length(1, 1024)]
    """One word, for programs."""
    message: Annotated[str, Length(0, 32768)] = ""
    """A sentence, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    """The source, pinned."""

    revision: str | None = None
    """Commit of the repository; none for a volume."""
    digest: str | None = None
    """Of the list of files with their SHA-256."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """The artefacts."""

    key: str | None = None
    """What the spec asks for."""
    active: str | None = None
    """What serves."""
    previous: str | None = None
    """What served before, kept to go back to."""
    cache_hit: bool | None = None
    """Whether `key` was there already, so that nothing was built."""
    compute_capability: str | None = None
    """Of the GPU that `key` is for."""
    trtllm_version: str | None = None
    """That `key` is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStatus:
    """The build of `status.engine.key`."""

    job: str | None = None
    """Name of the Job."""
    step: Step | None = None
    """What it does."""
    percent: Annotated[int, Range(0, 100)] | None = None
    """Of this step."""
    eta_seconds: Annotated[int, Range(0, 31_536_000)] | None = None
    """Until this step ends."""
    failure: Failure | None = None
    """Why it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where clients connect to, inside the cluster."""

    grpc: str
    """`host:port`."""
    http: str
    """`host:port`; empty with TLS, which Triton's HTTP does not have."""
    model: str
    """Name of the Triton model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What is. Written by the operator only."""

    observed_generation: int | None = None
    """Of the spec that all this is about."""
    phase: Phase | None = None
    """Where the model is, in one word."""
    conditions: Annotated[tuple[Condition, ...], Items(16, "type")] = ()
    """`Accepted`: the spec can be carried out. `EngineReady`: the artefact is there. `Available`:
    a pod answers. `Progressing`: something is under way."""
    source: SourceStatus = field(default_factory=SourceStatus)
    """The source, pinned."""
    engine: EngineStatus = field(default_factory=EngineStatus)
    """The artefacts."""
    build: BuildStatus = field(default_factory=BuildStatus)
    """The build of `engine.key`."""
    replicas: Annotated[int, Range(0, 100_000)] | None = None
    """Pods that are there."""
    ready_replicas: Annotated[int, Range(0, 100_000)] | None = None
    """Pods that answer."""
    selector: str | None = None
    """Labels of the pods, for autoscalers."""
    endpoint: Endpoint | None = None
    """Where clients connect to, inside the cluster."""
