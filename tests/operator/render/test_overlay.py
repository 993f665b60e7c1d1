"""spec.serving.podTemplate over the operator's pods."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmjp_operator.api import decode
from llmjp_operator.api.pod_template import PodTemplate
from llmjp_operator.render.overlay import apply_overlay
from llmjp_operator.render.pods import render_container_security
from tests.operator.factories import TORCH, make_artefact
from tests.operator.model_bodies import Object, make_model_body
from tests.operator.render.overlays import HEADERS, HTTP, OVERLAYS, REQUIRED
from tests.operator.render.samples import parse_sample, render_rollout


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
                    "securityContext": render_container_security(),
                }
            ],
            "volumes": [{"name": "store", "emptyDir": {}}],
            "affinity": {"podAffinity": {REQUIRED: [{"topologyKey": "ours"}]}},
        },
    }


def laid(spec: Object | None = None, metadata: Object | None = None) -> Object:
    body = {"spec": spec or {}, "metadata": metadata or {}}
    return apply_overlay(ours(), decode(PodTemplate, body, "podTemplate"))


def test_nothing_changes_nothing() -> None:
    template = ours()
    assert apply_overlay(template, PodTemplate()) is template


def test_the_template_is_left_alone() -> None:
    template = ours()
    overlay = decode(PodTemplate, {"spec": {"schedulerName": "x"}}, "podTemplate")
    assert apply_overlay(template, overlay)["spec"]["schedulerName"] == "x"
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
        assert container["securityContext"] == render_container_security()


def test_volumes_of_an_overlay_are_added() -> None:
    found = laid({"volumes": [{"name": "mine", "emptyDir": {}}]})["spec"]["volumes"]
    assert [v["name"] for v in found] == ["store", "mine"]


def test_rules_of_affinity_join_the_operators() -> None:
    found = laid({"affinity": {"podAffinity": {REQUIRED: [{"topologyKey": "theirs"}]}}})
    terms = found["spec"]["affinity"]["podAffinity"][REQUIRED]
    assert [term["topologyKey"] for term in terms] == ["ours", "theirs"]


def test_an_overlay_cannot_change_security() -> None:
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


def whole(name: str) -> Object:
    """The pod template of a model with that overlay."""
    changes = {"serving": {"podTemplate": OVERLAYS[name]}}
    of = parse_sample(make_model_body({**TORCH, **changes}))
    _, made = render_rollout(of, make_artefact(), single_node=True)
    template: Object = made["spec"]["template"]
    return template


def container(name: str, which: str = "sidecar") -> Object:
    [found] = [c for c in whole(name)["spec"]["containers"] if c["name"] == which]
    return dict(found)


def by(items: list[Object], name: str, key: str = "name") -> list[Object]:
    return [item for item in items if item[key] == name]


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_saying_nothing_changes_nothing(name: str) -> None:
    assert whole(name) == whole("nothing")


@pytest.mark.parametrize(
    ("name", "variable", "found"),
    [
        ("variable", "HF_HOME", {"value": "/x"}),
        ("variable", "NEW", {"value": "1"}),
        ("empty variable", "HF_HOME", {}),
        ("variable twice", "A", {"value": "2"}),
        (
            "variable of a secret",
            "HOME",
            {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ),
        (
            "variable of a size in MiB",
            "A",
            {"valueFrom": {"resourceFieldRef": {"resource": "requests.memory", "divisor": "1Mi"}}},
        ),
    ],
)
def test_a_variable_has_one_value(name: str, variable: str, found: Object) -> None:
    """Kubernetes takes a value or a reference, not both."""
    env = container(name, "triton")["env"]
    assert by(env, variable) == [{"name": variable, **found}]


@pytest.mark.parametrize(
    ("name", "volume", "found"),
    [
        ("scratch on a claim", "scratch", {"persistentVolumeClaim": {"claimName": "c"}}),
        ("more shared memory", "shm", {"emptyDir": {"medium": "Memory", "sizeLimit": "64Gi"}}),
        ("folder", "more", {"emptyDir": {"sizeLimit": "1536Mi"}}),
        ("secret", "more", {"secret": {"secretName": "s", "defaultMode": 0}}),
        ("claim", "more", {"persistentVolumeClaim": {"claimName": "c"}}),
    ],
)
def test_a_volume_is_of_one_sort(name: str, volume: str, found: Object) -> None:
    assert by(whole(name)["spec"]["volumes"], volume) == [{"name": volume, **found}]


@pytest.mark.parametrize("name", ["mount in place of the artefact", "volume in place of the store"])
def test_nobody_puts_another_artefact_in_place(name: str) -> None:
    assert whole(name) == whole("nothing")


def test_a_mount_replaces_ours() -> None:
    mounts = container("mount in place of ours", "triton")["volumeMounts"]
    assert [m["name"] for m in mounts if m["mountPath"].startswith("/tmp")] == ["shm"]


def test_an_overlay_cannot_take_a_port_of_the_node() -> None:
    assert container("sidecar's ports")["ports"] == [
        {"containerPort": 9000},
        {"containerPort": 9000, "protocol": "UDP", "name": "udp"},
        {"containerPort": 9001},
    ]


@pytest.mark.parametrize(
    "name", ["probe of another host", "probe of a port", "hooks", "probe with headers"]
)
def test_the_kubelet_calls_the_pod_only(name: str) -> None:
    assert '"host"' not in json.dumps(container(name))


def test_headers_are_kept_as_they_are() -> None:
    assert container("probe with headers")["startupProbe"]["httpGet"]["httpHeaders"] == HEADERS


@pytest.mark.parametrize(
    ("name", "field", "found"),
    [
        ("probe", "livenessProbe", {"httpGet": HTTP}),
        ("probe by gRPC", "livenessProbe", {"grpc": {"port": 9000}}),
        ("probe by command", "livenessProbe", {"exec": {"command": ["true"]}}),
        ("rest before the end", "lifecycle", {"preStop": {"sleep": {"seconds": 5}}}),
        ("sidecar's sizes", "resources", {"limits": {"cpu": "1", "memory": "1Gi"}}),
        ("sidecar's devices", "resources", {"limits": {"rdma/ib": "1"}}),
    ],
)
def test_what_says_nothing_is_left_out(name: str, field: str, found: Object) -> None:
    assert container(name)[field] == found


def test_what_is_empty_may_say_something() -> None:
    affinity = whole("near pods")["spec"]["affinity"]["podAffinity"][REQUIRED]
    assert affinity[-1] == {
        "topologyKey": "zone",
        "labelSelector": {"matchLabels": {"empty": "", "a": "b"}},
        "namespaceSelector": {},
    }
    assert len(affinity) == 2, "beside the store's own"


@pytest.mark.parametrize(
    ("name", "field", "found"),
    [
        ("hosts", "hostAliases", [{"ip": "10.0.0.1", "hostnames": ["b"]}]),
        ("pull secrets", "imagePullSecrets", [{"name": "a"}, {"name": "b"}]),
    ],
)
def test_an_item_is_there_once(name: str, field: str, found: list[Object]) -> None:
    assert whole(name)["spec"][field] == found


def test_two_rules_of_spreading_over_one_key() -> None:
    found = whole("spread")["spec"]["topologySpreadConstraints"]
    assert [rule["whenUnsatisfiable"] for rule in found] == ["DoNotSchedule", "ScheduleAnyway"]


def test_containers_stay_in_their_order() -> None:
    """The first to start, and those that go on running, come before what needs them."""
    assert [c["name"] for c in whole("before and beside")["spec"]["initContainers"]] == ["z", "a"]


def test_confinement_is_not_taken_away() -> None:
    annotations = whole("unconfined")["metadata"]["annotations"]
    assert annotations == {"prometheus.io/port": "8002", "prometheus.io/scrape": "false"}


@pytest.mark.parametrize("name", list(OVERLAYS))
def test_the_overlay_is_left_alone(name: str) -> None:
    before = copy.deepcopy(OVERLAYS[name])
    assert whole(name) == whole(name)
    assert OVERLAYS[name] == before


@given(st.sampled_from(list(OVERLAYS)), st.sampled_from(list(OVERLAYS)))
def test_ours_survives_any_overlay(one: str, other: str) -> None:
    """Also two of them, one laid over the result of the other."""
    template = apply_overlay(whole(one), decode(PodTemplate, OVERLAYS[other], "podTemplate"))
    plain, spec = whole("nothing"), template["spec"]
    [server] = by(spec["containers"], "triton")
    [bare] = plain["spec"]["containers"]
    for field in bare.keys() - {"env", "volumeMounts"}:
        assert server[field] == bare[field]
    assert by(server["volumeMounts"], "/artefact", "mountPath") == by(
        bare["volumeMounts"], "/artefact", "mountPath"
    )
    assert by(spec["volumes"], "store") == by(plain["spec"]["volumes"], "store")
    assert plain["metadata"]["labels"].items() <= template["metadata"]["labels"].items()
    changeable = {"containers", "volumes", "affinity", "securityContext", "enableServiceLinks"}
    for field in plain["spec"].keys() - changeable:
        assert spec[field] == plain["spec"][field]
    loose = {"fsGroup", "supplementalGroups", "fsGroupChangePolicy"}
    kept = {k: v for k, v in plain["spec"]["securityContext"].items() if k not in loose}
    assert kept.items() <= spec["securityContext"].items()
