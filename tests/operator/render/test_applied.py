"""Everything that the operator applies, on a real API server: it reads back as what was asked for,
so that nothing is written twice, and all its pods pass PodSecurity `restricted`.
"""

from __future__ import annotations

import copy
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hack.local_cluster import Cluster, Kubectl
from llmjp_builder.contracts.spec import to_canonical_json
from llmjp_operator.api import Model, parse_model
from llmjp_operator.names import FIELD_MANAGER, UNTIL
from llmjp_operator.observe.managed_fields import compute_object_digest, extract_owned_fields
from llmjp_operator.settings import Settings
from tests.operator.factories import TORCH, make_artefact
from tests.operator.model_bodies import Object, make_model_body
from tests.operator.render.overlays import OVERLAYS
from tests.operator.render.samples import list_samples, render_all_objects, render_rollout

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def restricted(cluster_with_crd: Cluster) -> Iterator[Kubectl]:
    """A namespace that admits nothing but restricted pods."""
    kubectl, name = cluster_with_crd.kubectl, f"restricted-{secrets.token_hex(4)}"
    kubectl("create", "namespace", name)
    kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield kubectl.within(name)
    kubectl("delete", "namespace", name, "--wait=false")


def stored(body: Object, namespace: Kubectl) -> Model:
    """The model as the API server has it, with all its defaults."""
    [made] = namespace.apply(body)
    return parse_model(made)


def apply(namespace: Kubectl, objects: list[Object], folder: Path) -> list[Object]:
    """Server-side apply as the operator does it; what is stored then."""
    file = folder / "objects.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}), "utf-8")
    options = (f"--field-manager={FIELD_MANAGER}", "--force-conflicts", f"--filename={file}")
    text = namespace(
        *("apply", "--server-side", *options, "--output=json", "--show-managed-fields")
    )
    answer = json.loads(text)
    return list(answer["items"]) if answer["kind"] == "List" else [answer]


def differences(asked: Any, kept: Any, path: str) -> Iterator[str]:
    """For whoever reads a failure."""
    if isinstance(asked, dict) and isinstance(kept, dict):
        for name in sorted(asked.keys() | kept.keys()):
            yield from differences(asked.get(name), kept.get(name), f"{path}.{name}")
    elif isinstance(asked, list) and isinstance(kept, list) and len(asked) == len(kept):
        ordered = [sorted(items, key=to_canonical_json) for items in (asked, kept)]
        for i, (one, other) in enumerate(zip(*ordered, strict=True)):
            yield from differences(one, other, f"{path}[{i}]")
    elif asked != kept:
        yield f"{path}: {asked!r} was kept as {kept!r}"


@pytest.mark.parametrize(("body", "settings"), list(list_samples()))
def test_what_is_applied_reads_back(
    restricted: Kubectl, tmp_path: Path, body: Object, settings: Settings
) -> None:
    wanted = render_all_objects(stored(copy.deepcopy(body), restricted), settings)
    for asked, found in zip(wanted, apply(restricted, wanted, tmp_path), strict=True):
        kept = extract_owned_fields(found, FIELD_MANAGER)
        same = compute_object_digest(asked) == compute_object_digest(kept)
        assert same, "\n".join(differences(asked["spec"], kept["spec"], asked["kind"]))


@pytest.mark.parametrize(("body", "settings"), list(list_samples()))
def test_pods_are_restricted(
    restricted: Kubectl, tmp_path: Path, body: Object, settings: Settings
) -> None:
    wanted = render_all_objects(stored(copy.deepcopy(body), restricted), settings)
    accounts = [obj for obj in wanted if obj["kind"] == "ServiceAccount"]
    apply(restricted, accounts, tmp_path)
    templates = [obj["spec"]["template"] for obj in wanted if obj["kind"] in {"Deployment", "Job"}]
    of_an_engine = any(UNTIL in obj["metadata"].get("annotations", {}) for obj in wanted)
    assert len(templates) == 4 + of_an_engine
    assert admitted(restricted, templates, tmp_path) == len(templates)


def admitted(namespace: Kubectl, templates: list[Object], folder: Path) -> int:
    """How many pods of such templates could be created."""
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**template["metadata"], "name": f"pod-{i}"},
            "spec": template["spec"],
        }
        for i, template in enumerate(templates)
    ]
    file = folder / "pods.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}), "utf-8")
    said = namespace("create", "--dry-run=server", f"--filename={file}")
    return said.count("created (server dry run)")


@pytest.fixture(scope="module")
def laid(
    restricted: Kubectl, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Object, Object]]:
    """Deployments with every overlay: as they were asked for, and as they are stored."""
    bodies = [
        make_model_body({**TORCH, "serving": {"podTemplate": overlay}}, f"overlay-{i}")
        for i, overlay in enumerate(OVERLAYS.values())
    ]
    wanted = [
        render_rollout(parse_model(body), make_artefact(), single_node=True)[1]
        for body in restricted.apply(*bodies)
    ]
    found = apply(restricted, wanted, tmp_path_factory.mktemp("laid"))
    return dict(zip(OVERLAYS, zip(wanted, found, strict=True), strict=True))


@pytest.mark.parametrize("name", list(OVERLAYS))
def test_an_overlay_reads_back(laid: dict[str, tuple[Object, Object]], name: str) -> None:
    asked, found = laid[name]
    kept = extract_owned_fields(found, FIELD_MANAGER)
    same = compute_object_digest(asked) == compute_object_digest(kept)
    assert same, "\n".join(differences(asked["spec"], kept["spec"], "Deployment"))


def test_pods_with_overlays_are_restricted(
    restricted: Kubectl, laid: dict[str, tuple[Object, Object]], tmp_path: Path
) -> None:
    templates = [asked["spec"]["template"] for asked, _ in laid.values()]
    accounts = [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": template["spec"]["serviceAccountName"]},
        }
        for template in templates
    ]
    apply(restricted, accounts, tmp_path)
    assert admitted(restricted, templates, tmp_path) == len(templates)


def test_containers_change_places(restricted: Kubectl, tmp_path: Path) -> None:
    """Server-side apply takes the new order of a list whose items have keys."""
    orders = []
    for names in (["z", "a"], ["a", "z"]):
        first = [{"name": name, "image": name} for name in names]
        overlay = {"spec": {"initContainers": first}}
        of = stored(
            make_model_body({**TORCH, "serving": {"podTemplate": overlay}}, "places"), restricted
        )
        _, made = render_rollout(of, make_artefact())
        [found] = apply(restricted, [made], tmp_path)
        assert compute_object_digest(made) == compute_object_digest(
            extract_owned_fields(found, FIELD_MANAGER)
        )
        orders.append([c["name"] for c in found["spec"]["template"]["spec"]["initContainers"]])
    assert orders == [["z", "a"], ["a", "z"]]
