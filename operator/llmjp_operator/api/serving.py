"""How the engine is served. Nothing here builds; a change rolls the pods at most."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from llmjp_builder.contracts.constraints import Items, Length, Matches, Range
from llmjp_builder.contracts.defaults import KV_CACHE_FRACTION, MAX_QUEUE
from llmjp_operator.api.field_types import Annotations, Labels
from llmjp_operator.api.pod_template import PodTemplate
from llmjp_operator.api.scheduling import Resources, Toleration


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What clients connect to."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """Of the Service. A headless one, for clients that balance themselves, is always beside it."""
    annotations: Annotations | None = None
    """Of the Service, for load balancers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Encryption of the endpoints."""

    secret_name: Annotated[
        str,
        Length(0, 253),
        Matches(r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", "must be the name of a Secret, or empty"),
    ] = ""
    """A Secret of type kubernetes.io/tls in the model's namespace; empty: no encryption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """The pods that answer."""

    replicas: Annotated[int, Range(0, 1000)] = 1
    """Pods, each with tensorParallel x pipelineParallel GPUs. `kubectl scale` and autoscalers write
    here; 0 stops serving and keeps the engine."""
    resources: Resources = field(default_factory=Resources)
    """Of the container that serves."""
    node_selector: Labels | None = None
    """Labels of the nodes they may run on, besides `hardware.gpuProduct`."""
    tolerations: Annotated[tuple[Toleration, ...], Items(32)] = ()
    """Taints of the nodes they may run on."""
    max_surge: Annotated[int, Range(0, 1)] = 1
    """1: a new pod beside the old ones, which go when it is ready. 0, for scarce GPUs: an old pod
    goes first; the downtime is announced, and the previous engine comes back if the new one does
    not become ready."""
    drain_seconds: Annotated[int, Range(0, 3600)] = 120
    """How long a pod that ends may take to finish its running streams."""
    kv_cache_fraction: Annotated[float, Range(0.01, 0.99)] = KV_CACHE_FRACTION
    """Of the GPU memory that the weights leave, for keys and values. Backend torch sizes its cache
    by maxBatchSize and maxSeqLen instead."""
    max_queue: Annotated[int, Range(0, 65536)] = MAX_QUEUE
    """Requests that may wait in a pod; more are refused."""
    service: Service = field(default_factory=Service)
    """What clients connect to."""
    tls: Tls = field(default_factory=Tls)
    """Encryption of the endpoints."""
    pod_template: PodTemplate = field(default_factory=PodTemplate)
    """An overlay over the pods, for what has no field here."""
