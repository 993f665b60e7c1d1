"""What is said once for all pods reaches Jobs and servers, and so does what the platform says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llmjp_operator.errors import InvalidModel
from llmjp_operator.render.network import render_serving_policy
from llmjp_operator.settings import PodUsers, Settings, parse_settings
from tests.operator.factories import SETTINGS, make_model
from tests.operator.model_bodies import Object, make_model_body
from tests.operator.render.samples import list_samples, parse_sample, render_all_objects

PROXY = {"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"}
ALIAS = {"ip": "192.0.2.7", "hostnames": ["hub.example.com"]}
COMMON: Object = {
    "labels": {"team": "a"},
    "annotations": {"sidecar.istio.io/inject": "false"},
    "env": [PROXY],
    "runtimeClassName": "nvidia",
    "priorityClassName": "batch-high",
    "schedulerName": "kueue",
    "hostAliases": [ALIAS],
    "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
    "securityContext": {"supplementalGroups": [4000]},
    "imagePullSecrets": [{"name": "mine"}],
}
COMPILED: Object = {
    "engine": {"backend": "tensorrt", "maxSeqLen": 512},
    "hardware": {"gpuProduct": "NVIDIA-H100-80GB-HBM3"},
}


def pods_of(spec: Object, settings: Settings = SETTINGS) -> dict[str, Any]:
    """Return the pod templates of a model, by what they are for."""
    body = make_model_body({**COMPILED, **spec}, "m")
    return {
        obj["metadata"]["labels"]["app.kubernetes.io/component"]: obj["spec"]["template"]
        for obj in render_all_objects(parse_sample(body), settings)
        if obj["kind"] in {"Job", "Deployment"}
    }


def test_every_pod_has_what_is_said_for_all() -> None:
    found = pods_of({"pods": COMMON})
    assert found.keys() == {"resolve", "build", "collect", "serving"}
    for name, pod in found.items():
        spec = pod["spec"]
        assert pod["metadata"]["labels"]["team"] == "a", name
        assert pod["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"
        assert PROXY in spec["containers"][0]["env"]
        assert spec["runtimeClassName"] == "nvidia"
        assert spec["priorityClassName"] == "batch-high"
        assert spec["schedulerName"] == "kueue"
        assert spec["hostAliases"] == [ALIAS]
        assert spec["dnsConfig"] == COMMON["dnsConfig"]
        assert spec["securityContext"]["supplementalGroups"] == [4000]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["imagePullSecrets"] == [{"name": "mine"}]


def test_what_is_said_for_some_pods_wins() -> None:
    others = {"priorityClassName": "low", "env": [{**PROXY, "value": "http://other:1"}]}
    serving = {"podTemplate": {"spec": {"priorityClassName": "online"}}}
    found = pods_of({"pods": COMMON, "build": {"pods": others}, "serving": serving})
    names = {name: pod["spec"]["priorityClassName"] for name, pod in found.items()}
    assert names == {"resolve": "low", "build": "low", "collect": "low", "serving": "online"}
    proxies = {
        name: [
            e["value"] for e in pod["spec"]["containers"][0]["env"] if e["name"] == "HTTPS_PROXY"
        ]
        for name, pod in found.items()
    }
    assert proxies["build"] == ["http://other:1"]
    assert proxies["serving"] == [PROXY["value"]]


def test_the_operators_labels_are_its_own() -> None:
    found = pods_of({"pods": {"labels": {"team": "a"}}})
    assert found["build"]["metadata"]["labels"]["app.kubernetes.io/component"] == "build"


def test_small_jobs_take_resources_for_a_strict_quota() -> None:
    limits = {"cpu": "2", "memory": "3Gi"}
    found = pods_of({"build": {"helperResources": {"limits": limits}}})
    for name in ("resolve", "collect"):
        assert found[name]["spec"]["containers"][0]["resources"]["limits"] == limits, name


@pytest.mark.parametrize(("body", "settings"), list(list_samples()))
def test_no_pod_names_a_user_where_the_platform_chooses(body: Object, settings: Settings) -> None:
    users = PodUsers(run_as_user=None, run_as_group=None, fs_group=None)
    made = render_all_objects(parse_sample(body), replace(settings, pod_users=users))
    templates = [o["spec"]["template"] for o in made if o["kind"] in {"Job", "Deployment"}]
    assert templates
    for template in templates:
        given = template["spec"]["securityContext"].keys()
        asked = (body["spec"].get("serving") or {}).get("podTemplate") or {}
        own = ((asked.get("spec") or {}).get("securityContext") or {}).keys()
        assert not given & {"runAsUser", "runAsGroup", "fsGroup"} - own
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True


def test_users_are_read_from_the_settings() -> None:
    assert parse_settings({}, "{}").pod_users == PodUsers()
    text = '{"podUsers": {"runAsUser": null, "runAsGroup": 5, "fsGroup": null}}'
    users = parse_settings({}, text).pod_users
    assert users == PodUsers(run_as_user=None, run_as_group=5, fs_group=None)


# The store


def test_a_second_volume_of_the_store_is_read_only() -> None:
    volume = {"name": "again", "persistentVolumeClaim": {"claimName": "m-store"}}
    other = {"name": "other", "persistentVolumeClaim": {"claimName": "data"}}
    found = pods_of({"serving": {"podTemplate": {"spec": {"volumes": [volume, other]}}}})
    volumes = {v["name"]: v for v in found["serving"]["spec"]["volumes"]}
    assert volumes["again"]["persistentVolumeClaim"]["readOnly"] is True
    assert volumes["other"] == other


@pytest.mark.parametrize(
    "path",
    [
        "/artefact/tokenizer",
        "/artefact//x/",
        "/artefact/../artefact/x",
        "//artefact/x",
        "artefact/x",
        "./artefact/x",
        "/",
        "",
    ],
)
def test_nothing_is_mounted_inside_the_artefact(path: str) -> None:
    mounts = [{"name": "x", "mountPath": path}]
    containers = [{"name": "triton", "volumeMounts": mounts}]
    with pytest.raises(InvalidModel, match="choose another mountPath"):
        make_model({"serving": {"podTemplate": {"spec": {"containers": containers}}}})


# Sidecars


def sidecar(context: Object) -> Object:
    container = {"name": "agent", "image": "agent:1", "securityContext": context}
    found = pods_of({"serving": {"podTemplate": {"spec": {"containers": [container]}}}})
    [made] = [c for c in found["serving"]["spec"]["containers"] if c["name"] == "agent"]
    context_made: Object = made["securityContext"]
    return context_made


def test_a_sidecar_may_have_a_user_and_a_root_of_its_own() -> None:
    made = sidecar({"runAsUser": 1337, "readOnlyRootFilesystem": False})
    assert (made["runAsUser"], made["readOnlyRootFilesystem"]) == (1337, False)
    assert made["capabilities"] == {"drop": ["ALL"]}
    assert made["allowPrivilegeEscalation"] is False


def test_what_raises_privileges_is_dropped_even_if_it_gets_past_the_api_server() -> None:
    made = sidecar({"privileged": True, "allowPrivilegeEscalation": True, "runAsNonRoot": False})
    assert not made.get("privileged")
    assert not made["allowPrivilegeEscalation"]
    assert made.get("runAsNonRoot") is not False
    assert sidecar({})["readOnlyRootFilesystem"] is True


# Who may connect


@pytest.mark.parametrize("kind", ["LoadBalancer", "NodePort", "ClusterIP"])
@pytest.mark.parametrize("named", [True, False])
def test_a_published_service_lets_clients_in_unless_the_platform_names_them(
    kind: str, named: bool
) -> None:
    peer = {"namespaceSelector": {"matchLabels": {"clients": "yes"}}}
    network = replace(SETTINGS.network, serving_from=(peer,) if named else ())
    model = make_model({"serving": {"service": {"type": kind}}})
    policy = render_serving_policy(model, replace(SETTINGS, network=network))
    assert policy is not None
    clients, metrics = policy["spec"]["ingress"]
    expected = [peer] if named else [{"podSelector": {}}] if kind == "ClusterIP" else None
    assert clients.get("from") == expected
    assert metrics["from"], "metrics are for nobody outside"


@pytest.mark.parametrize("place", ["pods", "build"])
@pytest.mark.parametrize("endpoint", [None, "https://huggingface.co"])
def test_a_token_goes_to_no_hub_of_the_environment(place: str, endpoint: str | None) -> None:
    env = {"env": [{"name": "HF_ENDPOINT", "value": "http://elsewhere.example.com"}]}
    settings = {"pods": env} if place == "pods" else {"build": {"pods": env}}
    hub: Object = {"tokenSecretRef": {"name": "s"}} | ({"endpoint": endpoint} if endpoint else {})
    found = pods_of({**settings, "source": {"huggingFace": {"repository": "o/n", **hub}}})
    for name in ("resolve", "build"):
        given = [
            each["value"]
            for each in found[name]["spec"]["containers"][0]["env"]
            if each["name"] == "HF_ENDPOINT"
        ]
        assert given == ["https://huggingface.co"], name


def test_a_token_goes_to_no_hub_of_a_config_map() -> None:
    env_from = [{"configMapRef": {"name": "a"}}]
    hub = {"repository": "o/n", "tokenSecretRef": {"name": "s"}}
    found = pods_of({"pods": {"envFrom": env_from}, "source": {"huggingFace": hub}})
    [builder] = found["build"]["spec"]["containers"]
    assert {"name": "HF_ENDPOINT", "value": "https://huggingface.co"} in builder["env"]
