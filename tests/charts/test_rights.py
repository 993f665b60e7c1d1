"""Who may do what once the chart is installed, as a real API server judges it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from hack.local_cluster import Kubectl, wait_until
from hack.local_cluster.errors import KubectlFailed
from llmjp_operator.act.kopf_watch import KINDS
from llmjp_operator.names import GROUP, LEASE, PLURAL
from tests.charts.charts import Releases
from tests.support.shared import ROOT

pytestmark = pytest.mark.cluster

Right = tuple[str, str, str, str]
"""API group, resource, verb, name; no name is all."""
READ = ("get", "list", "watch")
WRITE = ("create", "patch", "delete")
ACCOUNT = "llmjp-operator"


def rights(*named: tuple[str, str, tuple[str, ...]]) -> set[Right]:
    return {(group, resource, verb, "") for group, resource, verbs in named for verb in verbs}


MODELS = rights(
    (GROUP, PLURAL, READ),
    (GROUP, f"{PLURAL}/status", ("get", "patch")),
    ("", "pods", READ),
    ("", "pods/log", ("get",)),
    ("", "events", ("get", "list", "create", "patch")),
    *((group, plural, (*READ, *WRITE)) for group, _, plural in KINDS.values() if plural != "pods"),
)
"""Where models are: what `llmjp_operator.act.api_client` calls for the kinds of `handlers`."""
TURNS: set[Right] = {
    ("coordination.k8s.io", "leases", "create", ""),
    *(("coordination.k8s.io", "leases", verb, LEASE) for verb in ("get", "update")),
}
"""Where the operator is."""
NODES = rights(("", "nodes", READ))
DEFINITIONS = rights(("apiextensions.k8s.io", "customresourcedefinitions", READ))
NAMESPACES = rights(("", "namespaces", READ))


def reviewed(kubectl: Kubectl, user: str, namespace: str) -> set[Right]:
    """What the user may do there, besides what everybody may do."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    impersonation = (f"--as={user}", "--as-group=system:authenticated")
    # Validation would list definitions, as that user.
    options = ("--filename=-", "--output=json", "--validate=false")
    printed = kubectl("create", *options, *impersonation, stdin=json.dumps(review))
    return {
        (group, resource, verb, name)
        for rule in json.loads(printed)["status"]["resourceRules"]
        for group in rule.get("apiGroups", [])
        for resource in rule.get("resources", [])
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }


@pytest.fixture
def beside(place: Kubectl) -> Iterator[list[str]]:
    """Three more namespaces."""
    names = [f"{place.namespace}-{letter}" for letter in "abc"]
    for name in names:
        place("create", "namespace", name)
    yield names
    place("delete", "namespace", *names, "--wait=false")


class Rights:
    """The operator's, by namespace."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self._user = f"system:serviceaccount:{kubectl.namespace}:{ACCOUNT}"

    def __call__(self, namespace: str) -> set[Right]:
        everybody = reviewed(self._kubectl, "nobody", namespace)
        return reviewed(self._kubectl, self._user, namespace) - everybody


@pytest.fixture
def operators(place: Kubectl) -> Rights:
    return Rights(place)


def test_in_a_whole_cluster(
    releases: Releases, operators: Rights, place: Kubectl, beside: list[str]
) -> None:
    releases.install()
    everywhere = MODELS | NODES | DEFINITIONS
    assert operators(beside[0]) == everywhere
    assert operators(place.namespace) == everywhere | TURNS


def test_in_a_whole_cluster_with_an_eye_on_some_namespaces(
    releases: Releases, operators: Rights, beside: list[str]
) -> None:
    releases.install("llmjp-operator", f"--set=watchNamespaces={{{beside[0]}}}")
    assert operators(beside[1]) == MODELS | NODES | DEFINITIONS | NAMESPACES


@pytest.mark.parametrize("read_nodes", [False, True])
def test_in_some_namespaces_only(
    releases: Releases, operators: Rights, place: Kubectl, beside: list[str], *, read_nodes: bool
) -> None:
    watched = f"--set=watchNamespaces={{{beside[0]},{beside[1]}}}"
    more = f"--set=rbac.readNodes={str(read_nodes).lower()}"
    releases.install("llmjp-operator", "--set=rbac.scope=namespaced", watched, more)
    nodes = NODES if read_nodes else set()
    assert operators(beside[0]) == operators(beside[1]) == MODELS | nodes
    assert operators(beside[2]) == nodes
    assert operators(place.namespace) == TURNS | nodes


def test_with_rights_of_their_own(releases: Releases, operators: Rights, place: Kubectl) -> None:
    releases.install("llmjp-operator", "--set=rbac.create=false")
    assert operators(place.namespace) == set()


def test_no_role_mentions_secrets_or_everything() -> None:
    for path in (ROOT / "tests/charts/golden").iterdir():
        roles = [o for o in yaml.safe_load_all(path.read_text("utf-8")) if "rules" in o]
        assert roles
        words = {w for o in roles for rule in o["rules"] for part in rule.values() for w in part}
        assert not words & {"secrets", "*"}


def may(kubectl: Kubectl, user: str, *asked: str) -> bool:
    try:
        kubectl("auth", "can-i", *asked, f"--as={user}", "--quiet")
    except KubectlFailed:
        return False
    return True


@pytest.fixture
def users(releases: Releases, place: Kubectl) -> Kubectl:
    """A namespace with a user for each of the cluster's own roles, who is named like it."""
    releases.install()
    for role in ("view", "edit", "admin"):
        place("create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}")

        def look(role: str = role) -> tuple[bool, Any]:
            return may(place, role, "list", PLURAL), role

        wait_until(f"{role} has what llmjp-view and llmjp-edit grant", look)
    return place


def test_users(users: Kubectl) -> None:
    change = ("create", "update", "patch", "delete")
    for role in ("view", "edit", "admin"):
        assert all(may(users, role, verb, PLURAL) for verb in READ)
        assert may(users, role, "get", PLURAL, "--subresource=status")
        assert not may(users, role, "patch", PLURAL, "--subresource=status")
        assert not may(users, role, "patch", "crd")
    for role in ("edit", "admin"):
        assert all(may(users, role, verb, PLURAL) for verb in change)
        assert may(users, role, "patch", PLURAL, "--subresource=scale")
    assert not any(may(users, "view", verb, PLURAL) for verb in change)
    assert not may(users, "view", "patch", PLURAL, "--subresource=scale")
    assert not may(users, "nobody", "get", PLURAL)
