"""Settings of the installation."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmjp_operator.errors import BadSettings
from llmjp_operator.settings import PRIVATE_RANGES, Images, LeaderElection, Network, parse_settings


def settings(environ: dict[str, str] | None = None, **values: Any) -> Any:
    return parse_settings(environ or {}, json.dumps(values))


def test_without_settings_there_are_defaults() -> None:
    found = settings()
    assert (found.namespace, found.identity) == ("default", "llmjp-operator")
    assert (found.images, found.watch_namespaces, found.resync_seconds) == ({}, (), 300)
    assert (found.network, found.leader_election) == (Network(), LeaderElection())


@pytest.mark.parametrize(
    ("environ", "identity"),
    [
        ({"LLMJP_POD_NAME": "pod", "HOSTNAME": "host"}, "pod"),
        ({"LLMJP_POD_NAME": "", "HOSTNAME": "host"}, "host"),
    ],
)
def test_the_identity_is_the_name_of_the_pod_or_else_of_the_host(
    environ: dict[str, str], identity: str
) -> None:
    assert settings(environ).identity == identity


def test_watched_namespaces_are_split_at_commas() -> None:
    found = settings({"LLMJP_WATCH_NAMESPACES": "a, b,,c ", "LLMJP_NAMESPACE": "system"})
    assert (found.namespace, found.watch_namespaces) == ("system", ("a", "b", "c"))


def test_every_setting_is_read() -> None:
    rule: dict[str, Any] = {"to": [{"podSelector": {}}]}
    found = settings(
        images={"cpu": {"builder": "b:1", "runtime": "r:1"}},
        imagePullPolicy="Never",
        imagePullSecrets=["x"],
        network={
            "enabled": False,
            "clusterCidrs": ["10.0.0.0/8", "fd00::/8"],
            "buildEgress": [rule],
            "servingFrom": [{"podSelector": {}}],
            "metricsFrom": [{"namespaceSelector": {}}],
        },
        leaderElection={"enabled": False, "leaseSeconds": 30, "renewSeconds": 20},
        logLevel="debug",
        resyncSeconds=20,
    )
    assert found.images == {"cpu": Images(builder="b:1", runtime="r:1")}
    assert (found.image_pull_policy, found.image_pull_secrets) == ("Never", ("x",))
    assert found.network == Network(
        enabled=False,
        cluster_cidrs=("10.0.0.0/8", "fd00::/8"),
        build_egress=(rule,),
        serving_from=({"podSelector": {}},),
        metrics_from=({"namespaceSelector": {}},),
    )
    assert found.leader_election == LeaderElection(
        enabled=False, lease_seconds=30, renew_seconds=20, retry_seconds=2
    )
    assert (found.log_level, found.resync_seconds) == ("debug", 20)


def test_no_ranges_is_not_the_default_ranges() -> None:
    assert settings(network={"clusterCidrs": []}).network.cluster_cidrs == ()
    assert settings(network={}).network.cluster_cidrs == PRIVATE_RANGES


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"colour": 1}, "settings.json.colour: unknown; known are imagePull"),
        ({"images": []}, "images: must be an object"),
        ({"images": {"cpu": {"builder": "b"}}}, "images.cpu.runtime: must be the reference"),
        ({"images": {"cpu": {"builder": "", "runtime": "r"}}}, "images.cpu.builder: must be"),
        ({"images": {"cpu": {"builder": "b", "runtime": "r", "x": 1}}}, "images.cpu.x: unknown"),
        ({"imagePullPolicy": "Often"}, "imagePullPolicy: must be one of Always"),
        ({"imagePullSecrets": "x"}, "imagePullSecrets: must be a list of strings"),
        ({"imagePullSecrets": [1]}, "imagePullSecrets: must be a list of strings"),
        ({"network": {"clusterCidrs": ["10.0.0.1/8"]}}, "'10.0.0.1/8' is no range"),
        ({"network": {"enabled": 1}}, "network.enabled: must be true or false"),
        ({"network": {"buildEgress": ["x"]}}, "network.buildEgress: must be a list of objects"),
        ({"network": {"ports": []}}, "network.ports: unknown"),
        ({"leaderElection": {"leaseSeconds": 10}}, "retrySeconds < renewSeconds < leaseSeconds"),
        ({"leaderElection": {"retrySeconds": 0}}, "leaderElection.retrySeconds: must be a whole"),
        ({"leaderElection": {"enabled": "yes"}}, "leaderElection.enabled: must be true"),
        ({"resyncSeconds": True}, "resyncSeconds: must be a whole number from 1, not True"),
        ({"resyncSeconds": 1.5}, "resyncSeconds: must be a whole number from 1, not 1.5"),
        ({"logLevel": "loud"}, "logLevel: must be one of debug"),
    ],
)
def test_what_is_not_understood(values: dict[str, Any], said: str) -> None:
    with pytest.raises(BadSettings) as caught:
        settings(**values)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"), [("{", "no JSON"), ("[]", "must be an object"), ("", "no JSON")]
)
def test_settings_that_are_no_json_object_are_refused(text: str, said: str) -> None:
    with pytest.raises(BadSettings, match=said):
        parse_settings({}, text)
