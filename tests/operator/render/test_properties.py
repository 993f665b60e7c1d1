"""Properties of every object of every model."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmjp_builder.contracts.spec import Backend
from llmjp_operator.decide.sizing import estimate_resources
from llmjp_operator.names import (
    FROM_CHECKPOINT,
    MANAGED_BY,
    MAX_LABEL,
    MAX_MODEL_NAME,
    MODEL_LABEL,
    OPERATOR,
)
from llmjp_operator.observe.managed_fields import compute_object_digest
from llmjp_operator.render.pods import render_container_security
from llmjp_operator.render.quantities import normalize_quantity
from llmjp_operator.settings import Settings
from tests.operator.factories import SETTINGS
from tests.operator.model_bodies import Object, make_model_body, merge_patch
from tests.operator.render.samples import (
    list_samples,
    make_sample_resolution,
    parse_sample,
    render_all_objects,
)

every_model = pytest.mark.parametrize(("body", "settings"), list(list_samples()))

LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
"""Name of a Service (RFC 1035), the strictest of all."""
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


def pods(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    """Every object with pods, and their template."""
    for obj in objects:
        if obj["kind"] in {"Deployment", "Job"}:
            yield obj, obj["spec"]["template"]


def containers(template: Object) -> list[Object]:
    spec = template["spec"]
    return [*spec.get("initContainers", ()), *spec["containers"]]


def ours(template: Object) -> Object:
    container: Object = template["spec"]["containers"][0]
    return container


@every_model
def test_names_are_valid_and_unique(body: Object, settings: Settings) -> None:
    check_names(render_all_objects(parse_sample(body), settings))


def check_names(objects: list[Object]) -> None:
    seen = [(obj["apiVersion"], obj["kind"], obj["metadata"]["name"]) for obj in objects]
    assert len(set(seen)) == len(seen)
    for obj in objects:
        name = obj["metadata"]["name"]
        assert obj["metadata"]["namespace"] == "ns"
        assert SUBDOMAIN.fullmatch(name)
        assert len(name) <= (253 if obj["kind"] in {"ConfigMap", "PersistentVolumeClaim"} else 63)
        if obj["kind"] == "Service":
            assert DNS_LABEL.fullmatch(name)
        templates = [template["metadata"] for _, template in pods([obj])]
        for metadata in (obj["metadata"], *templates):
            for value in metadata["labels"].values():
                assert LABEL.fullmatch(value)
                assert len(value) <= MAX_LABEL


NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,44}[a-z0-9])?", fullmatch=True)
CLAIMS = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", fullmatch=True)


@given(NAMES, CLAIMS)
def test_any_valid_name_gives_valid_names(name: str, claim: str) -> None:
    assert len(name) <= MAX_MODEL_NAME
    storage = {"size": None, "existingClaim": claim}
    check_names(
        render_all_objects(parse_sample(make_model_body({"storage": storage}, name)), SETTINGS)
    )


@every_model
def test_objects_are_labelled_and_owned_by_their_model(body: Object, settings: Settings) -> None:
    of = parse_sample(body)
    for obj in render_all_objects(of, settings):
        metadata = obj["metadata"]
        assert metadata["labels"][MANAGED_BY] == OPERATOR
        assert len(metadata["labels"]["app.kubernetes.io/component"]) > 0
        outlives = obj["kind"] in {"ConfigMap", "PersistentVolumeClaim"}
        if outlives and of.spec.storage.on_delete == "Retain":
            assert "ownerReferences" not in metadata, "it would go with the model"
        else:
            assert metadata["labels"][MODEL_LABEL] == of.name
            assert [owner["uid"] for owner in metadata["ownerReferences"]] == [of.uid]


@every_model
def test_selectors_find_their_pods_and_no_others(body: Object, settings: Settings) -> None:
    objects = render_all_objects(parse_sample(body), settings)
    labels = {obj["metadata"]["name"]: t["metadata"]["labels"] for obj, t in pods(objects)}
    for obj in objects:
        spec = obj.get("spec", {})
        selector = spec.get("podSelector", spec.get("selector"))
        if selector is None:
            continue
        found = {name for name, of_pod in labels.items() if selects(selector, of_pod)}
        serving = {o["metadata"]["name"] for o in objects if o["kind"] == "Deployment"}
        builders = obj["metadata"]["labels"]["app.kubernetes.io/component"] == "build"
        assert found == (labels.keys() - serving if builders else serving), obj["kind"]


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Return whether a LabelSelector, or a Service's map, selects labels."""
    if not selector.keys() & {"matchLabels", "matchExpressions"}:
        return selector.items() <= labels.items()
    expressions = selector.get("matchExpressions", ())
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(rule["key"]) in rule["values"] for rule in expressions
    )


@every_model
def test_a_deployments_selector_never_changes(body: Object, settings: Settings) -> None:
    """Kubernetes does not allow it."""
    variants: list[Object] = [{}, {"engine": {"maxBatchSize": 3}}, {"serving": {"maxQueue": 7}}]
    selectors = []
    for changes in variants:
        changed = {**body, "spec": merge_patch(body["spec"], changes)}
        [made] = [
            o
            for o in render_all_objects(parse_sample(changed), settings)
            if o["kind"] == "Deployment"
        ]
        selectors.append(made["spec"]["selector"])
    assert selectors == [selectors[0]] * len(variants)


@every_model
def test_mounts_have_volumes_and_paths_are_unique(body: Object, settings: Settings) -> None:
    for _, template in pods(render_all_objects(parse_sample(body), settings)):
        named = [volume["name"] for volume in template["spec"]["volumes"]]
        mounted = [m for c in containers(template) for m in c.get("volumeMounts", ())]
        assert len(set(named)) == len(named)
        assert {mount["name"] for mount in mounted} <= set(named)
        paths = [mount["mountPath"] for mount in ours(template)["volumeMounts"]]
        assert len(set(paths)) == len(paths)
        for volume in template["spec"]["volumes"]:
            assert len(volume) == 2, f"{volume['name']}: one source"


@every_model
def test_files_in_arguments_are_on_volumes(body: Object, settings: Settings) -> None:
    for _, template in pods(render_all_objects(parse_sample(body), settings)):
        mounts = [m["mountPath"] for m in ours(template)["volumeMounts"]]
        for argument in ours(template)["args"]:
            if argument.startswith("/") and argument != "/dev/termination-log":
                assert any(argument == m or argument.startswith(f"{m}/") for m in mounts), argument


@every_model
def test_pods_are_confined(body: Object, settings: Settings) -> None:
    for _, template in pods(render_all_objects(parse_sample(body), settings)):
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        security = spec["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 10001)
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(template):
            assert container["securityContext"] == render_container_security()
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "hostUsers", "nodeName"}
        assert not re.search(r'"(hostPath|hostPort|hostIP|privileged|host)"', json.dumps(spec))


@every_model
def test_the_artefact_is_read_only(body: Object, settings: Settings) -> None:
    for obj, template in pods(render_all_objects(parse_sample(body), settings)):
        for volume in template["spec"]["volumes"]:
            if volume["name"] == "source" or (volume["name"], obj["kind"]) == (
                *("store", "Deployment"),
            ):
                assert volume["persistentVolumeClaim"]["readOnly"] is True


@every_model
def test_secrets_are_seen_where_they_are_needed_only(body: Object, settings: Settings) -> None:
    of = parse_sample(body)
    hub = of.spec.source.hugging_face
    token = None if hub is None or hub.token_secret_ref is None else hub.token_secret_ref.name
    for obj, template in pods(render_all_objects(of, settings)):
        component = obj["metadata"]["labels"]["app.kubernetes.io/component"]
        secrets = {
            v["secret"]["secretName"] for v in template["spec"]["volumes"] if "secret" in v
        } - {"more"}
        compiles = FROM_CHECKPOINT in obj["metadata"].get("annotations", {})
        fetches = component in {"resolve", "build"} and not compiles
        assert (token in secrets) is (token is not None and fetches)
        assert "secretKeyRef" not in json.dumps(template), "a file, never the environment"
        for volume in template["spec"]["volumes"]:
            if "secret" in volume and volume["name"] != "secret":
                assert volume["secret"]["defaultMode"] == 0o440
                assert "optional" not in volume["secret"]


@every_model
def test_ports_have_names_that_exist(body: Object, settings: Settings) -> None:
    objects = render_all_objects(parse_sample(body), settings)
    [(_, template)] = [(o, t) for o, t in pods(objects) if o["kind"] == "Deployment"]
    ports = {port["name"]: port["containerPort"] for port in ours(template)["ports"]}
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert ours(template)[kind]["httpGet"]["port"] in ports
    for obj in objects:
        if obj["kind"] == "Service":
            for port in obj["spec"]["ports"]:
                assert ports[port["targetPort"]] == port["port"]
        if obj["kind"] == "NetworkPolicy" and obj["metadata"]["name"] == parse_sample(body).name:
            open_ports = {p["port"] for rule in obj["spec"]["ingress"] for p in rule["ports"]}
            assert open_ports == {ports[name] for name in ("grpc", "http", "metrics")}


@every_model
def test_quantities_are_spelled_as_they_are_kept(body: Object, settings: Settings) -> None:
    for _, template in pods(render_all_objects(parse_sample(body), settings)):
        for container in containers(template):
            for sizes in container.get("resources", {}).values():
                for size in sizes.values():
                    assert size == normalize_quantity(size)


@every_model
def test_no_null_or_empty_list_is_rendered(body: Object, settings: Settings) -> None:
    """Nulls and empty lists are not stored, and would be written for ever."""

    def look(value: Any, path: str) -> None:
        assert value is not None, path
        assert value != [], path
        for name, item in value.items() if isinstance(value, dict) else ():
            look(item, f"{path}.{name}")
        for i, item in enumerate(value) if isinstance(value, list) else ():
            look(item, f"{path}[{i}]")

    for obj in render_all_objects(parse_sample(body), settings):
        look(obj, obj["kind"])


@every_model
def test_rendering_is_deterministic(body: Object, settings: Settings) -> None:
    """Also where the spec's maps come in another order; and nobody's values are changed."""
    before = copy.deepcopy(body)
    once = render_all_objects(parse_sample(body), settings)
    again = render_all_objects(parse_sample(turned(body)), settings)
    assert [compute_object_digest(obj) for obj in once] == [
        compute_object_digest(obj) for obj in again
    ]
    assert json.dumps(once) == json.dumps(render_all_objects(parse_sample(body), settings))
    assert body == before


def turned(value: Any) -> Any:
    """With every map's keys in reverse."""
    if isinstance(value, dict):
        return {name: turned(item) for name, item in reversed(value.items())}
    return [turned(item) for item in value] if isinstance(value, list) else value


@every_model
def test_objects_share_nothing(body: Object, settings: Settings) -> None:
    """Whoever changes one must not change another, nor the settings."""
    given = [part for rule in rules(settings) for part in parts(rule)]
    seen = {id(part): "settings" for part in given}

    def look(value: Any, path: str) -> None:
        if isinstance(value, dict | list):
            assert id(value) not in seen, f"{path} is {seen[id(value)]}"
            seen[id(value)] = path
        for name, item in value.items() if isinstance(value, dict) else ():
            look(item, f"{path}.{name}")
        for i, item in enumerate(value) if isinstance(value, list) else ():
            look(item, f"{path}[{i}]")

    objects = render_all_objects(parse_sample(body), settings)
    for obj in objects:
        look(obj, f"{obj['kind']} {obj['metadata']['name']}")


def rules(settings: Settings) -> list[Any]:
    network = settings.network
    return [*network.build_egress, *network.serving_from, *network.metrics_from]


def parts(value: Any) -> Iterator[Any]:
    """The value, and everything in it that can be changed."""
    if isinstance(value, dict | list):
        yield value
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in items:
        yield from parts(item)


@every_model
def test_a_rollout_has_its_time(body: Object, settings: Settings) -> None:
    of = parse_sample(body)
    [(made, template)] = [
        p for p in pods(render_all_objects(of, settings)) if p[0]["kind"] == "Deployment"
    ]
    probe, arguments = ours(template)["startupProbe"], ours(template)["args"]
    allowed = probe["failureThreshold"] * probe["periodSeconds"]
    server = int(arguments[arguments.index("--start-timeout") + 1])
    assert server < allowed < made["spec"]["progressDeadlineSeconds"]
    grace = template["spec"]["terminationGracePeriodSeconds"]
    assert grace >= of.spec.serving.drain_seconds + 40, "the server's own limit, and mpirun's"


@every_model
def test_pods_ask_for_the_gpus_of_their_division_and_for_no_others(
    body: Object, settings: Settings
) -> None:
    of = parse_sample(body)
    engine, product = of.spec.engine, of.spec.hardware.gpu_product
    division = engine.tensor_parallel * engine.pipeline_parallel
    serving = division if engine.backend is not Backend.TORCH else int(product is not None)
    wanted = {"serving": serving}
    for obj, template in pods(render_all_objects(of, settings)):
        gpus = wanted.get(obj["metadata"]["labels"]["app.kubernetes.io/component"], 0)
        if FROM_CHECKPOINT in obj["metadata"].get("annotations", {}):
            gpus = division
        sizes = ours(template)["resources"]
        for size in ("requests", "limits"):
            assert sizes.get(size, {}).get("nvidia.com/gpu", "0") == str(gpus)
        selected = template["spec"].get("nodeSelector", {}).get("nvidia.com/gpu.product")
        assert selected == (product if gpus else None)


@every_model
def test_pods_that_use_gpus_run_images_of_the_runtime(body: Object, settings: Settings) -> None:
    for obj, template in pods(render_all_objects(parse_sample(body), settings)):
        component = obj["metadata"]["labels"]["app.kubernetes.io/component"]
        gpus = "nvidia.com/gpu" in ours(template)["resources"].get("limits", {})
        image = "runtime" if component == "serving" else "builder"
        assert ours(template)["image"] == f"{image}:{'gpu' if gpus else 'cpu'}"


@every_model
def test_memory_is_what_the_estimate_needs_unless_the_spec_says_it(
    body: Object, settings: Settings
) -> None:
    of = parse_sample(body)
    needs = estimate_resources(of.spec, make_sample_resolution(of))
    estimates = {"build": needs.memory_bytes, "serving": needs.serving_memory_bytes}
    given = {"build": of.spec.build.resources, "serving": of.spec.serving.resources}
    for obj, template in pods(render_all_objects(of, settings)):
        component = obj["metadata"]["labels"]["app.kubernetes.io/component"]
        if component in estimates and given[component].requests is None:
            needed = estimates[component]
            assert needed is not None
            memory = as_bytes(ours(template)["resources"]["requests"]["memory"])
            assert needed <= memory <= needed + (2 << 30)


def as_bytes(quantity: str) -> int:
    unit = {"Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}[quantity[-2:]]
    return int(quantity[:-2]) * unit


def test_the_cases_have_every_optional_object() -> None:
    kinds = {
        case.id: {
            o["kind"] for o in render_all_objects(parse_sample(case.values[0]), case.values[1])
        }
        for case in list_samples()
    }
    assert "NetworkPolicy" not in kinds["torch"]
    assert "PersistentVolumeClaim" not in kinds["shared"]
    assert kinds["everything"] >= {"NetworkPolicy", "PersistentVolumeClaim", "Job", "Deployment"}
