"""What people may add to pods: all of PodSecurity `restricted`, as an allow-list of fields.

`PodTemplate` is an overlay for the serving pods, `PodSettings` what all pods of a model share. The
API server prunes all other fields and refuses by name those that would raise privileges. Opaque
objects are passed on; the API server validates them when the pods are created.
"""

from dataclasses import dataclass, field
from posixpath import normpath
from typing import Annotated, ClassVar, Final, Literal

from llmjp_builder.contracts.constraints import Forbidden, Items, Length, Range
from llmjp_operator.api.field_types import (
    Annotations,
    CelRule,
    Labels,
    ObjectName,
    OpaqueList,
    OpaqueObject,
)
from llmjp_operator.names import ARTEFACT_FOLDER, GROUP, SERVING_CONTAINER

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
    "securityContext",
    "terminationMessagePath",
    "terminationMessagePolicy",
)
_HOST: Final = "must be left out: the pods are kept apart from their node"
_ACCOUNT: Final = "must be left out: the pods have a service account of their own, without rights"
_RESTRICTED: Final = "must be left out: the operator sets what PodSecurity restricted asks for"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeccompProfile:
    """System calls that a container may make; fields as in a pod."""

    type: Literal["RuntimeDefault", "Localhost"]
    localhost_profile: _Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Capabilities of a container; fields as in a pod. All are dropped anyway."""

    drop: _Texts = ()
    add: Annotated[tuple[Literal["NET_BIND_SERVICE"], ...], Items(1)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSecurityContext:
    """User and root of a sidecar, within PodSecurity `restricted`; fields as in a pod."""

    RULES: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            "!has(self.privileged) || !self.privileged",
            _RESTRICTED,
            ".privileged",
            "FieldValueForbidden",
        ),
        CelRule(
            "!has(self.allowPrivilegeEscalation) || !self.allowPrivilegeEscalation",
            _RESTRICTED,
            ".allowPrivilegeEscalation",
            "FieldValueForbidden",
        ),
        CelRule(
            "!has(self.runAsNonRoot) || self.runAsNonRoot",
            _RESTRICTED,
            ".runAsNonRoot",
            "FieldValueForbidden",
        ),
    )

    run_as_user: Annotated[int, Range(1, 2**31 - 1)] | None = None
    run_as_group: Annotated[int, Range(1, 2**31 - 1)] | None = None
    run_as_non_root: bool | None = None
    read_only_root_filesystem: bool | None = None
    """Left out: true."""
    allow_privilege_escalation: bool | None = None
    privileged: bool | None = None
    capabilities: Capabilities | None = None
    seccomp_profile: SeccompProfile | None = None
    proc_mount: Annotated[_Text | None, Forbidden(_RESTRICTED)] = None


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
    security_context: ContainerSecurityContext | None = None
    termination_message_path: _Text | None = None
    termination_message_policy: Literal["File", "FallbackToLogsOnError"] | None = None

    def __post_init__(self) -> None:
        for mount in self.volume_mounts if self.name == SERVING_CONTAINER else ():
            # As the kubelet resolves it: relative to the root, and any number of slashes is one.
            path = normpath("/" + str(mount.get("mountPath", "")).lstrip("/"))
            if path == "/" or path.startswith(f"{ARTEFACT_FOLDER}/"):
                raise ValueError(
                    f"volumeMounts: {path} is inside or above {ARTEFACT_FOLDER}, where the "
                    "artefact is mounted whole and read-only: choose another mountPath"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume for sidecars, or for `volumeMounts` of `triton`; fields as in a pod."""

    name: Annotated[str, Length(1, 63)]
    config_map: OpaqueObject | None = None
    secret: OpaqueObject | None = None
    empty_dir: OpaqueObject | None = None
    persistent_volume_claim: OpaqueObject | None = None
    """The model's own store can be mounted read-only."""
    csi: OpaqueObject | None = None
    projected: OpaqueObject | None = None
    downward_api: OpaqueObject | None = None
    ephemeral: OpaqueObject | None = None
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
    preemption_policy: Literal["Never", "PreemptLowerPriority"] | None = None
    readiness_gates: OpaqueList = ()
    resource_claims: OpaqueList = ()
    """Claims of dynamic resource allocation, for sidecars."""
    share_process_namespace: bool | None = None
    enable_service_links: bool | None = None
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSettings:
    """What all pods have in common; fields as in a pod."""

    RULES: ClassVar[tuple[CelRule, ...]] = PodMetadata.RULES

    labels: Labels | None = None
    annotations: Annotations | None = None
    """Such as `sidecar.istio.io/inject: "false"`: a sidecar keeps Jobs from ending."""
    env: OpaqueList = ()
    """Environment of the operator's containers, such as `HTTPS_PROXY`."""
    env_from: OpaqueList = ()
    runtime_class_name: ObjectName | None = None
    """RuntimeClass, such as `nvidia`."""
    priority_class_name: ObjectName | None = None
    scheduler_name: ObjectName | None = None
    image_pull_secrets: OpaqueList = ()
    """Added to the operator's own."""
    host_aliases: OpaqueList = ()
    dns_policy: Literal["ClusterFirst", "Default", "None"] | None = None
    dns_config: OpaqueObject | None = None
    security_context: PodSecurityContext | None = None
