"""Settings of the installation: images, network, leader election."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any, Final, Literal

from llmjp_operator.errors import BadSettings

PRIVATE_RANGES: Final = (
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
)
"""Ranges of pods, Services, nodes and cloud metadata (RFC 1918, 6598, 3927, 4193, 4291), which
downloads may not reach unless `network` says otherwise."""

PolicyPart = Mapping[str, Any]
"""A part of a NetworkPolicy, passed on as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Images of the two kinds of pods."""

    builder: str
    """Image of Jobs that resolve, build and collect."""
    runtime: str
    """Image of the serving pods."""


HUB: Final = "huggingface.co"
"""Host of the Hugging Face hub."""
USER: Final = 10001
"""uid, gid and fsGroup of pods, as in our images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodUsers:
    """Users and groups of models' pods; None where the platform chooses (OpenShift)."""

    run_as_user: int | None = USER
    run_as_group: int | None = USER
    fs_group: int | None = USER


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The NetworkPolicies beside builds and servers."""

    enabled: bool = True
    cluster_cidrs: tuple[str, ...] = PRIVATE_RANGES
    """Ranges that builds may not reach on port 443."""
    build_egress: tuple[PolicyPart, ...] = ()
    """Further egress rules of builds, such as one to a mirror inside the cluster."""
    serving_from: tuple[PolicyPart, ...] = ()
    """Peers that may talk to a model; empty: any pod of its namespace."""
    metrics_from: tuple[PolicyPart, ...] = ()
    """Peers that may read its metrics; empty: nobody from outside `serving_from`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderElection:
    """Leader election among several operators."""

    enabled: bool = True
    lease_seconds: int = 15
    """How long the others wait for the leader to renew its Lease."""
    renew_seconds: int = 10
    """How long the leader retries a renewal before it steps down."""
    retry_seconds: int = 2
    """Time between two attempts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings that are not in a model's spec."""

    namespace: str
    """Namespace of the operator and its Lease."""
    identity: str
    """Identity of this process in leader election."""
    images: Mapping[str, Images]
    """By flavour: `cpu`, and versions of the runtime table."""
    watch_namespaces: tuple[str, ...] = ()
    """Empty: all."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    token_hosts: tuple[str, ...] = (HUB,)
    """Hosts that a model's token may be sent to, over https; `http://host:port` allows that."""
    pod_users: PodUsers = field(default_factory=PodUsers)
    network: Network = field(default_factory=Network)
    leader_election: LeaderElection = field(default_factory=LeaderElection)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    upgrade_policy: Literal["Keep", "Roll"] = "Keep"
    """For models that do not say themselves: `spec.serving.upgradePolicy`."""
    upgrades_at_once: int = 1
    """How many models may be rolled out at once because of an upgrade."""
    version: str = ""
    """Version of the operator, for revisions."""
    resync_seconds: int = 300
    """Interval of the resync, which finds deletions that a watch missed."""


def parse_settings(environ: Mapping[str, str], text: str) -> Settings:
    """Parse the settings from the environment and a file's JSON text.

    Raises:
        BadSettings: names the setting, what was expected and what was found.
    """
    try:
        document = json.loads(text)
    except ValueError as exc:
        raise BadSettings("settings.json", f"no JSON: {exc}") from exc
    values = _parse_object(document, "settings.json", _TOP_FIELDS)
    images = _parse_object(values.get("images", {}), "images", None)
    names = environ.get("LLMJP_WATCH_NAMESPACES", "")
    return Settings(
        namespace=environ.get("LLMJP_NAMESPACE") or "default",
        identity=environ.get("LLMJP_POD_NAME") or environ.get("HOSTNAME") or "llmjp-operator",
        watch_namespaces=tuple(filter(None, (name.strip() for name in names.split(",")))),
        images={flavour: _parse_images(flavour, value) for flavour, value in images.items()},
        image_pull_policy=_parse_choice(values, "imagePullPolicy", _PULL_POLICIES, "IfNotPresent"),
        image_pull_secrets=_parse_strings(values.get("imagePullSecrets", []), "imagePullSecrets"),
        token_hosts=_parse_strings(values.get("tokenHosts", [HUB]), "tokenHosts"),
        pod_users=_parse_pod_users(values.get("podUsers", {})),
        network=_parse_network(
            _parse_object(values.get("network", {}), "network", _NETWORK_FIELDS)
        ),
        leader_election=_parse_leader_election(
            _parse_object(
                values.get("leaderElection", {}), "leaderElection", _LEADER_ELECTION_FIELDS
            )
        ),
        upgrade_policy=_parse_choice(values, "upgradePolicy", _UPGRADE_POLICIES, "Keep"),
        upgrades_at_once=_parse_seconds(values, "upgradesAtOnce", 1),
        version=importlib.metadata.version("llmjp-serving"),
        log_level=_parse_choice(values, "logLevel", _LOG_LEVELS, "info"),
        resync_seconds=_parse_seconds(values, "resyncSeconds", 300),
    )


_TOP_FIELDS = {
    "images",
    "imagePullPolicy",
    "imagePullSecrets",
    "network",
    "podUsers",
    "tokenHosts",
    "leaderElection",
    "logLevel",
    "resyncSeconds",
    "upgradePolicy",
    "upgradesAtOnce",
}
_NETWORK_FIELDS = {"enabled", "clusterCidrs", "buildEgress", "servingFrom", "metricsFrom"}
_LEADER_ELECTION_FIELDS = {"enabled", "leaseSeconds", "renewSeconds", "retrySeconds"}
_UPGRADE_POLICIES = ("Keep", "Roll")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_LOG_LEVELS = ("debug", "info", "warning", "error")


def _parse_object(value: Any, name: str, known: set[str] | None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadSettings(name, f"must be an object, found {value!r}")
    if known is not None and (unknown := sorted(value.keys() - known)):
        raise BadSettings(f"{name}.{unknown[0]}", f"unknown; known are {', '.join(sorted(known))}")
    return value


def _parse_images(flavour: str, value: Any) -> Images:
    given = _parse_object(value, f"images.{flavour}", {"builder", "runtime"})
    for name in ("builder", "runtime"):
        if not isinstance(given.get(name), str) or not given[name]:
            raise BadSettings(f"images.{flavour}.{name}", "must be the reference of an image")
    return Images(builder=given["builder"], runtime=given["runtime"])


def _parse_network(given: dict[str, Any]) -> Network:
    cidrs = given.get("clusterCidrs")
    return Network(
        enabled=_parse_boolean(given, "enabled", "network"),
        cluster_cidrs=PRIVATE_RANGES if cidrs is None else _parse_cidrs(cidrs),
        build_egress=_parse_objects(given.get("buildEgress", []), "network.buildEgress"),
        serving_from=_parse_objects(given.get("servingFrom", []), "network.servingFrom"),
        metrics_from=_parse_objects(given.get("metricsFrom", []), "network.metricsFrom"),
    )


def _parse_cidrs(value: Any) -> tuple[str, ...]:
    found = _parse_strings(value, "network.clusterCidrs")
    for cidr in found:
        try:
            ip_network(cidr)
        except ValueError as exc:
            raise BadSettings("network.clusterCidrs", f"{cidr!r} is no range: {exc}") from exc
    return found


def _parse_pod_users(value: Any) -> PodUsers:
    given = _parse_object(value, "podUsers", {"runAsUser", "runAsGroup", "fsGroup"})
    for name, number in given.items():
        if number is not None and (type(number) is not int or number < 1):
            raise BadSettings(f"podUsers.{name}", f"must be a number from 1, or null: {number!r}")
    return PodUsers(
        run_as_user=given.get("runAsUser", USER),
        run_as_group=given.get("runAsGroup", USER),
        fs_group=given.get("fsGroup", USER),
    )


def _parse_leader_election(given: dict[str, Any]) -> LeaderElection:
    defaults = (("lease", 15), ("renew", 10), ("retry", 2))
    seconds = {n: _parse_seconds(given, f"{n}Seconds", d, "leaderElection.") for n, d in defaults}
    if not seconds["retry"] < seconds["renew"] < seconds["lease"]:
        raise BadSettings("leaderElection", "retrySeconds < renewSeconds < leaseSeconds must hold")
    return LeaderElection(
        enabled=_parse_boolean(given, "enabled", "leaderElection"),
        lease_seconds=seconds["lease"],
        renew_seconds=seconds["renew"],
        retry_seconds=seconds["retry"],
    )


def _parse_seconds(given: dict[str, Any], name: str, default: int, where: str = "") -> int:
    value = given.get(name, default)
    if type(value) is not int or value < 1:
        raise BadSettings(f"{where}{name}", f"must be a whole number from 1, not {value!r}")
    return value


def _parse_boolean(given: dict[str, Any], name: str, where: str) -> bool:
    value = given.get(name, True)
    if not isinstance(value, bool):
        raise BadSettings(f"{where}.{name}", f"must be true or false, found {value!r}")
    return value


def _parse_strings(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadSettings(name, f"must be a list of strings, found {value!r}")
    return tuple(value)


def _parse_objects(value: Any, name: str) -> tuple[dict[str, Any], ...]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BadSettings(name, f"must be a list of objects, found {value!r}")
    return tuple(value)


def _parse_choice(given: dict[str, Any], name: str, choices: tuple[str, ...], default: str) -> Any:
    value = given.get(name, default)
    if value not in choices:
        raise BadSettings(name, f"must be one of {', '.join(choices)}, found {value!r}")
    return value
