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

from e2e.cluster import Cluster, Kubectl
from llmjp_builder.spec import canonical_json
from llmjp_operator.api import Model, parse
from llmjp_operator.names import FIELD_MANAGER
from llmjp_operator.ownership import digest_of, owned
from llmjp_operator.settings import Settings
from tests.operator.desired.samples import cases, desired
from tests.operator.objects import Object

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
    return parse(made)


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
        ordered = [sorted(items, key=canonical_json) for items in (asked, kept)]
        for i, (one, other) in enumerate(zip(*ordered, strict=True)):
            yield from differences(one, other, f"{path}[{i}]")
    elif asked != kept:
        yield f"{path}: {asked!r} was kept as {kept!r}"


@pytest.mark.parametrize(("body", "settings"), list(cases()))
def test_what_is_applied_reads_back(
    restricted: Kubectl, tmp_path: Path, body: Object, settings: Settings
) -> None:
    wanted = desired(stored(copy.deepcopy(body), restricted), settings)
    for asked, found in zip(wanted, apply(restricted, wanted, tmp_path), strict=True):
        kept = owned(found, FIELD_MANAGER)
        same = digest_of(asked) == digest_of(kept)
        assert same, "\n".join(differences(asked["spec"], kept["spec"], asked["kind"]))


@pytest.mark.parametrize(("body", "settings"), list(cases()))
def test_pods_are_restricted(
    restricted: Kubectl, tmp_path: Path, body: Object, settings: Settings
) -> None:
    wanted = desired(stored(copy.deepcopy(body), restricted), settings)
    accounts = [obj for obj in wanted if obj["kind"] == "ServiceAccount"]
    apply(restricted, accounts, tmp_path)
    pods = [
        {"apiVersion": "v1", "kind": "Pod", **obj["spec"]["template"]}
        for obj in wanted
        if "template" in obj["spec" if "spec" in obj else "metadata"]
    ]
    assert len(pods) == 4
    for i, pod in enumerate(pods):
        pod["metadata"] = {**pod["metadata"], "name": f"pod-{i}"}
    file = tmp_path / "pods.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}), "utf-8")
    said = restricted("create", "--dry-run=server", f"--filename={file}")
    assert said.count("created (server dry run)") == len(pods)
