"""A control plane that knows LlmJpModel, and a way to talk to it."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from hack.local_cluster import Cluster
from llmjp_operator.crd.definition import build_definition
from llmjp_operator.names import API_VERSION, CRD, PLURAL
from tests.operator.model_bodies import Object
from tests.support.api_server import Answer, ApiServer, api_server


@dataclass(frozen=True, slots=True)
class Models:
    """The LlmJpModels of one namespace."""

    server: ApiServer
    namespace: str

    def create(self, model: Object, *, dry_run: bool = True) -> Answer:
        return self.server("POST", self._path("", dry_run=dry_run), model)

    def replace(self, model: Object, *, dry_run: bool = True) -> Answer:
        changed = copy.deepcopy(model)
        name = changed["metadata"]["name"]
        stored = self.server("GET", self._path(f"/{name}", dry_run=False)).body
        changed["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"]
        return self.server("PUT", self._path(f"/{name}", dry_run=dry_run), changed)

    def _path(self, name: str, *, dry_run: bool) -> str:
        path = f"/apis/{API_VERSION}/namespaces/{self.namespace}/{PLURAL}{name}"
        return f"{path}?fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")


@pytest.fixture(scope="session")
def cluster_with_crd(control_plane: Cluster) -> Cluster:
    """The control plane, once it knows the kind."""
    control_plane.kubectl.apply(build_definition())
    control_plane.kubectl.wait(f"crd/{CRD}", "condition=Established")
    return control_plane


@pytest.fixture(scope="session")
def models(cluster_with_crd: Cluster) -> Iterator[Models]:
    """The models of a namespace for all tests together; names must be the test's own."""
    kubectl, namespace = cluster_with_crd.kubectl, f"models-{secrets.token_hex(4)}"
    kubectl("create", "namespace", namespace)
    with api_server(kubectl) as server:
        yield Models(server, namespace)
    kubectl("delete", "namespace", namespace, "--wait=false")
