"""How the engine is served. A change here builds nothing; at most it rolls the pods."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from llmjp_builder.contracts.constraints import Items, Length, Matches, Range
from llmjp_builder.contracts.defaults import KV_CACHE_FRACTION, MAX_QUEUE
from llmjp_operator.api.field_types import Annotations, Labels
from llmjp_operator.api.pod_template import PodTemplate
from llmjp_operator.api.scheduling import Resources, Toleration


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The Service that clients connect to."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """Type of the Service. A headless Service for client-side balancing always exists as
    well: `kubectl get service -l serving.llmjp.dev/model=NAME`."""
    annotations: Annotations | None = None
    """Annotations of the Service, for load balancers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """TLS of the endpoints."""

    secret_name: Annotated[
        str,
        Length(0, 253),
        Matches(r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", "must be the name of a Secret, or empty"),
    ] = ""
    """A Secret of type kubernetes.io/tls in the model's namespace; empty: no TLS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """The pods that serve."""

    replicas: Annotated[int, Range(0, 1000)] = 1
    """Number of pods, each with tensorParallel x pipelineParallel GPUs. `kubectl scale` and
    autoscalers set it; 0 stops serving and keeps the engine."""
    resources: Resources = field(default_factory=Resources)
    """Resources of the serving container."""
    node_selector: Labels | None = None
    """Node labels that the pods require, besides `hardware.gpuProduct`."""
    tolerations: Annotated[tuple[Toleration, ...], Items(32)] = ()
    """Node taints that the pods tolerate."""
    max_surge: Annotated[int, Range(0, 1)] = 1
    """1: a new pod starts beside the old ones, which end once it is ready. 0, for scarce GPUs: an
    old pod ends first; a condition announces the downtime, and the previous engine comes back if
    the new one does not become ready."""
    drain_seconds: Annotated[int, Range(0, 3600)] = 120
    """Seconds that a terminating pod has to finish its running requests."""
    kv_cache_fraction: Annotated[float, Range(0.01, 0.99)] = KV_CACHE_FRACTION
    """Share of the GPU memory left by the weights that the KV cache takes. Backend torch sizes its
    cache by maxBatchSize and maxSeqLen instead."""
    max_queue: Annotated[int, Range(0, 65536)] = MAX_QUEUE
    """Requests that may wait in a pod; further ones are refused."""
    upgrade_policy: Literal["Keep", "Roll"] | None = None
    """What a new operator, or other images of the installation, do to pods that serve. Keep: they
    stay as they are until the model is edited. Roll: they are replaced. Absent: as the
    installation says (value `upgradePolicy` of the chart, Keep)."""
    service: Service = field(default_factory=Service)
    """The Service that clients connect to."""
    tls: Tls = field(default_factory=Tls)
    """TLS of the endpoints."""
    pod_template: PodTemplate = field(default_factory=PodTemplate)
    """Overlay for the pods, for what has no field here."""
