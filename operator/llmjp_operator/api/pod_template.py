"""Overlay for the serving pods: an allow-list of fields.

The API server prunes all other fields and refuses by name those that would raise privileges. Opaque
objects are passed on; the API server validates them when the pods are created.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final, Literal

from llmjp_builder.contracts.constraints import Forbidden, Items, Length
from llmjp_operator.api.field_types import (
    Annotations,
    CelRule,
    Labels,
    ObjectName,
    OpaqueList,
    OpaqueObject,
)
from llmjp_operator.names import GROUP, SERVING_CONTAINER

_Text = Annotated[str, Length(0, 4096)]
_Texts = Annotated[tuple[_Text, ...], Items(128)]

_OPERATORS_OWN: Final = (
    "image",
    "imagePullPolicy",
    "command",
    "args",
    "workingDir",
    "ports",
    "resources",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "restartPolicy",
)
_HOST: Final = "must be left out: the pods are kept apart from their node"
_ACCOUNT: Final = "must be left out: the pods have a service account of their own, without rights"
_RESTRICTED: Final = "must be left out: the operator sets what PodSecurity restricted asks for"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A sidecar, or additions to the serving container `triton`; fields as in a pod."""

    RULES: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            f"self.name != '{SERVING_CONTAINER}' || "
            f"!({' || '.join(f'has(self.{name})' for name in _OPERATORS_OWN)})",
            f"the container {SERVING_CONTAINER} takes env, envFrom and volumeMounts only: the rest "
            "is the operator's (its resources are spec.serving.resources)",
            reason="FieldValueForbidden",
        ),
    )

    name: Annotated[str, Length(1, 63)]
    """`triton`, or any other for a sidecar."""
    image: _Text | None = None
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    command: _Texts | None = None
    args: _Texts | None = None
    working_dir: _Text | None = None
    env: OpaqueList = ()
    env_from: OpaqueList = ()
    ports: OpaqueList = ()
    resources: OpaqueObject | None = None
    volume_mounts: OpaqueList = ()
    liveness_probe: OpaqueObject | None = None
    readiness_probe: OpaqueObject | None = None
    startup_probe: OpaqueObject | None = None
    lifecycle: OpaqueObject | None = None
    restart_policy: Literal["Always"] | None = None
    """For an init container that keeps running beside the others."""
    security_context: Annotated[OpaqueObject | None, Forbidden(_RESTRICTED)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume for sidecars, or for `volumeMounts` of `triton`; fields as in a pod."""

    name: Annotated[str, Length(1, 63)]
    config_map: OpaqueObject | None = None
    secret: OpaqueObject | None = None
    empty_dir: OpaqueObject | None = None
    persistent_volume_claim: OpaqueObject | None = None
    host_path: Annotated[OpaqueObject | None, Forbidden(_HOST)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSecurityContext:
    """Groups that own volumes; fields as in a pod. The operator sets the rest."""

    fs_group: int | None = None
    fs_group_change_policy: Literal["Always", "OnRootMismatch"] | None = None
    supplemental_groups: Annotated[tuple[int, ...], Items(32)] = ()
    run_as_user: Annotated[int | None, Forbidden(_RESTRICTED)] = None
    run_as_group: Annotated[int | None, Forbidden(_RESTRICTED)] = None
    run_as_non_root: Annotated[bool | None, Forbidden(_RESTRICTED)] = None
    seccomp_profile: Annotated[OpaqueObject | None, Forbidden(_RESTRICTED)] = None
    sysctls: Annotated[OpaqueList | None, Forbidden(_RESTRICTED)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodTemplateSpec:
    """Spec of the pods; fields as in a pod."""

    affinity: OpaqueObject | None = None
    """Added to what `hardware.gpuProduct` requires."""
    topology_spread_constraints: OpaqueList = ()
    priority_class_name: ObjectName | None = None
    runtime_class_name: ObjectName | None = None
    """RuntimeClass, such as `nvidia`."""
    scheduler_name: ObjectName | None = None
    image_pull_secrets: OpaqueList = ()
    """Added to the operator's own."""
    host_aliases: OpaqueList = ()
    dns_policy: Literal["ClusterFirst", "Default", "None"] | None = None
    dns_config: OpaqueObject | None = None
    security_context: PodSecurityContext | None = None
    volumes: Annotated[tuple[Volume, ...], Items(32, "name")] = ()
    containers: Annotated[tuple[Container, ...], Items(8, "name")] = ()
    """Merged with the operator's by name."""
    init_containers: Annotated[tuple[Container, ...], Items(8, "name")] = ()
    """Run before the operator's."""

    host_network: Annotated[bool | None, Forbidden(_HOST)] = None
    host_pid: Annotated[bool | None, Forbidden(_HOST)] = None
    host_ipc: Annotated[bool | None, Forbidden(_HOST)] = None
    host_users: Annotated[bool | None, Forbidden(_HOST)] = None
    node_name: Annotated[
        _Text | None, Forbidden("must be left out: it bypasses the scheduler; use nodeSelector")
    ] = None
    service_account_name: Annotated[_Text | None, Forbidden(_ACCOUNT)] = None
    service_account: Annotated[_Text | None, Forbidden(_ACCOUNT)] = None
    automount_service_account_token: Annotated[bool | None, Forbidden(_ACCOUNT)] = None
    node_selector: Annotated[
        OpaqueObject | None, Forbidden("must be left out: spec.serving.nodeSelector is the place")
    ] = None
    tolerations: Annotated[
        OpaqueList | None, Forbidden("must be left out: spec.serving.tolerations is the place")
    ] = None
    termination_grace_period_seconds: Annotated[
        int | None, Forbidden("must be left out: it follows from spec.serving.drainSeconds")
    ] = None
    restart_policy: Annotated[
        _Text | None, Forbidden("must be left out: pods of a Deployment always restart")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodMetadata:
    """Labels and annotations of the pods."""

    RULES: ClassVar[tuple[CelRule, ...]] = tuple(
        CelRule(
            f"!has(self.{kind}) || self.{kind}.all(key, !key.startsWith('{GROUP}/') && "
            "!key.startsWith('app.kubernetes.io/'))",
            f"keys of {GROUP} and app.kubernetes.io are the operator's",
            f".{kind}",
            "FieldValueForbidden",
        )
        for kind in ("labels", "annotations")
    )

    labels: Labels | None = None
    annotations: Annotations | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodTemplate:
    """Overlay, merged by Kubernetes' merge keys."""

    metadata: PodMetadata = field(default_factory=PodMetadata)
    """Added to the operator's own."""
    spec: PodTemplateSpec = field(default_factory=PodTemplateSpec)
    """Added to the operator's own."""
