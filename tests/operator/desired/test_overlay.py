"""spec.serving.podTemplate over the operator's pods."""

from __future__ import annotations

from typing import Any

import pytest

from llmjp_operator.api import decode
from llmjp_operator.api.pod_template import PodTemplate
from llmjp_operator.desired.overlay import overlaid
from llmjp_operator.desired.pods import container_security
from tests.operator.objects import Object

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def ours() -> Object:
    return {
        "metadata": {"labels": {"app.kubernetes.io/name": "llmjp"}, "annotations": {"a": "1"}},
        "spec": {
            "serviceAccountName": "m",
            "securityContext": {"runAsNonRoot": True, "fsGroup": 10001},
            "containers": [
                {
                    "name": "triton",
                    "image": "runtime",
                    "env": [{"name": "HOME", "value": "/tmp"}],
                    "volumeMounts": [{"name": "store", "mountPath": "/artefact"}],
                    "securityContext": container_security(),
                }
            ],
            "volumes": [{"name": "store", "emptyDir": {}}],
            "affinity": {"podAffinity": {REQUIRED: [{"topologyKey": "ours"}]}},
        },
    }


def laid(spec: Object | None = None, metadata: Object | None = None) -> Object:
    body = {"spec": spec or {}, "metadata": metadata or {}}
    return overlaid(ours(), decode(PodTemplate, body, "podTemplate"))


def test_nothing_changes_nothing() -> None:
    template = ours()
    assert overlaid(template, PodTemplate()) is template


def test_the_template_is_left_alone() -> None:
    template = ours()
    overlay = decode(PodTemplate, {"spec": {"schedulerName": "x"}}, "podTemplate")
    assert overlaid(template, overlay)["spec"]["schedulerName"] == "x"
    assert template == ours()


def test_a_variable_is_added_or_changed() -> None:
    env = [{"name": "HOME", "value": "/home"}, {"name": "MORE", "value": "1"}]
    found = laid({"containers": [{"name": "triton", "env": env}]})["spec"]["containers"]
    assert [c["name"] for c in found] == ["triton"]
    assert found[0]["env"] == env
    assert found[0]["image"] == "runtime"


def test_a_sidecar_is_restricted_too() -> None:
    extra = {"name": "sidecar", "image": "x"}
    found = laid({"containers": [extra], "initContainers": [{"name": "first", "image": "y"}]})
    assert [c["name"] for c in found["spec"]["containers"]] == ["triton", "sidecar"]
    for container in (*found["spec"]["containers"], *found["spec"]["initContainers"]):
        assert container["securityContext"] == container_security()


def test_volumes_join() -> None:
    found = laid({"volumes": [{"name": "mine", "emptyDir": {}}]})["spec"]["volumes"]
    assert [v["name"] for v in found] == ["store", "mine"]


def test_rules_of_affinity_join_the_operators() -> None:
    found = laid({"affinity": {"podAffinity": {REQUIRED: [{"topologyKey": "theirs"}]}}})
    terms = found["spec"]["affinity"]["podAffinity"][REQUIRED]
    assert [term["topologyKey"] for term in terms] == ["ours", "theirs"]


def test_security_stays() -> None:
    found = laid({"securityContext": {"fsGroup": 5, "supplementalGroups": [7]}})
    security = found["spec"]["securityContext"]
    assert security == {"runAsNonRoot": True, "fsGroup": 5, "supplementalGroups": [7]}


@pytest.mark.parametrize("kind", ["labels", "annotations"])
def test_keys_of_the_operator_stay(kind: str) -> None:
    given: Any = {"app.kubernetes.io/name": "other", "mine": "1"}
    found = laid(metadata={kind: given})["metadata"][kind]
    assert found["mine"] == "1"
    assert found.get("app.kubernetes.io/name") == {"labels": "llmjp"}.get(kind, "other")


def test_lists_without_a_key_are_replaced() -> None:
    first = {"dnsConfig": {"nameservers": ["10.0.0.1"]}}
    assert laid(first)["spec"]["dnsConfig"] == {"nameservers": ["10.0.0.1"]}
