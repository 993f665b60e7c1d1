"""Where artefacts are stored, and the Jobs that build them."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from llmjp_builder.contracts.constraints import Items, Range
from llmjp_operator.api.field_types import CelRule, Labels, ObjectName, Quantity
from llmjp_operator.api.pod_template import PodSettings
from llmjp_operator.api.scheduling import Resources, Toleration

AccessMode = Literal["ReadWriteMany", "ReadWriteOnce"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationHardware:
    """Where scales are measured."""

    gpu: bool = False
    """Whether the Job that converts and calibrates asks for a GPU. Without one it takes hours for
    large models, and holds none meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """The Jobs that build: of an engine, one to fetch and convert, and one to compile."""

    resources: Resources = field(default_factory=Resources)
    """Resources of the container, in both Jobs of an engine; GPUs are added by what each needs."""
    calibration: CalibrationHardware = field(default_factory=CalibrationHardware)
    """Hardware for calibration, of quantization fp8."""
    helper_resources: Resources = field(default_factory=Resources)
    """Resources of the Jobs that resolve a source and remove old artefacts, for quotas that ask for
    limits."""
    node_selector: Labels | None = None
    """Node labels that the pod requires, besides `hardware.gpuProduct`."""
    tolerations: Annotated[tuple[Toleration, ...], Items(32)] = ()
    """Node taints that the pod tolerates."""
    pods: PodSettings = field(default_factory=PodSettings)
    """Overrides of `spec.pods` for Jobs."""
    active_deadline_seconds: Annotated[int, Range(60, 604_800)] = 21600
    """Seconds after which the build is stopped and counts as failed."""
    backoff_limit: Annotated[int, Range(0, 20)] = 3
    """Retries of transient failures. Evictions, preemptions and lost nodes are not counted. Other
    failures are not retried until something changes that the Job's pod depends on."""


def _make_immutable_rule(name: str, absent: str, reason: str) -> CelRule:
    now, before = (f"(has({o}.{name}) ? {o}.{name} : '{absent}')" for o in ("self", "oldSelf"))
    return CelRule(f"{now} == {before}", f"{name} cannot change: {reason}", f".{name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """The volume for artefacts: a new one (`size`), or an existing claim."""

    RULES: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "has(self.size) != has(self.existingClaim)",
            "either size, for a volume that is made, or existingClaim is needed, and not both",
            reason="FieldValueRequired",
        ),
        CelRule(
            "!has(self.existingClaim) || !(has(self.storageClassName) || has(self.accessMode))",
            "an existing claim has its storage class and access mode already: leave both out",
            ".existingClaim",
        ),
        CelRule(
            "!has(self.existingClaim) || self.onDelete == 'Retain'",
            "an existing claim is never deleted by the operator: onDelete must be Retain",
            ".onDelete",
            "FieldValueForbidden",
        ),
        _make_immutable_rule(
            "existingClaim",
            "",
            "the engines that serve lie there; create a model of another name on the new volume",
        ),
        _make_immutable_rule("storageClassName", "", "Kubernetes moves no volume to another class"),
        _make_immutable_rule(
            "accessMode", "ReadWriteMany", "Kubernetes keeps a volume's access mode"
        ),
        CelRule(
            "!has(self.size) || quantity(string(self.size)).isGreaterThan(quantity('0'))",
            "size must be more than 0",
            ".size",
        ),
        CelRule(
            "!has(self.size) || !has(oldSelf.size) || "
            "quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0",
            "size can only grow: Kubernetes shrinks no volume",
            ".size",
        ),
    )

    size: Quantity | None = None
    """Size of the volume that is created for this model."""
    storage_class_name: ObjectName | None = None
    """Storage class; left out: the cluster's default."""
    access_mode: AccessMode | None = None
    """Left out: `ReadWriteMany`. With `ReadWriteOnce`, building and serving share one node, which
    must have room for both."""
    existing_claim: ObjectName | None = None
    """An existing PersistentVolumeClaim in the model's namespace. Several models may share it;
    equal artefacts are then built and stored once."""
    on_delete: Literal["Retain", "Delete"] = "Retain"
    """What happens to the volume when the model is deleted."""
    keep_engines: Annotated[int, Range(1, 100)] = 2
    """Artefacts of this model to keep, newest first; artefacts in use are never removed."""

    def __post_init__(self) -> None:
        if (self.size is None) == (self.existing_claim is None):
            raise ValueError(self.RULES[0].sentence)

    @property
    def created_access_mode(self) -> AccessMode:
        """Access mode of the volume that is created."""
        return self.access_mode or "ReadWriteMany"
