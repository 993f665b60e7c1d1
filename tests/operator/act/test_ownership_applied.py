"""Objects of others on a real API server, and a user who may create LlmJpModels and nothing else.

The preconditions of server-side apply that this rests on are Kubernetes' own; the fake API server
of the other tests does what is seen here.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes.aio import client, config

from hack.local_cluster import Cluster, Kubectl
from llmjp_operator.act.api_client import KubeCluster
from llmjp_operator.act.controller import Controller
from llmjp_operator.act.metrics import Metrics
from llmjp_operator.api import Model, parse_model
from llmjp_operator.names import GROUP, OWNER, PLURAL
from llmjp_operator.observe.cache import ObjectCache
from llmjp_operator.plan import ReconcilePlan
from tests.operator.factories import SETTINGS, TORCH
from tests.operator.model_bodies import Object, make_model_body
from tests.operator.render.samples import render_all_objects

pytestmark = pytest.mark.cluster

USER = "alice"


@pytest.fixture(scope="module")
def tenant(cluster_with_crd: Cluster) -> Iterator[Kubectl]:
    """A namespace in which a user may create models, and nothing else."""
    kubectl, name = cluster_with_crd.kubectl, f"tenant-{secrets.token_hex(4)}"
    kubectl("create", "namespace", name)
    place = kubectl.within(name)
    place("create", "role", "models", "--verb=create,get", f"--resource={PLURAL}.{GROUP}")
    place("create", "rolebinding", "models", "--role=models", f"--user={USER}")
    yield place
    kubectl("delete", "namespace", name, "--wait=false")


def create_model(place: Kubectl, name: str) -> Model:
    """Let the user create a model; return it as it is stored."""
    body = make_model_body(TORCH, name)
    text = place("create", f"--as={USER}", "--filename=-", "--output=json", stdin=json.dumps(body))
    return parse_model(json.loads(text))


def as_foreign(body: Object) -> Object:
    """Return the object as an administrator might have made it, labels and all."""
    metadata = {k: body["metadata"][k] for k in ("name", "namespace", "labels")}
    rest = {k: v for k, v in body.items() if k not in {"metadata", "status"}}
    return {**rest, "metadata": metadata}


def reconcile(place: Kubectl, model: Model, objects: tuple[Object, ...] = ()) -> float | None:
    """Write objects of a model as a plan would, or reconcile it with the real controller."""

    async def run() -> float | None:
        await config.load_kube_config(str(place.kubeconfig))
        async with client.ApiClient() as api:
            cluster = KubeCluster(api, asyncio.Semaphore(2))
            cache = ObjectCache()
            cache.put_model(place.get(PLURAL, model.name))
            controller = Controller(cache, cluster, SETTINGS, Metrics(cache))
            after = None
            if objects:
                plan = ReconcilePlan(
                    remove_first=(),
                    record=None,
                    apply=objects,
                    add_owners=(),
                    remove=(),
                    status=model.status,
                    notices=(),
                    requeue_after_s=None,
                    details=(),
                )
                with pytest.raises(Exception, match="belongs to somebody else"):
                    await controller.writer.write(model, plan)
            for _ in range(2):
                after = await controller.reconcile((model.namespace, model.name))
            return after

    return asyncio.run(run())


def describe(place: Kubectl, body: Object) -> Any:
    """Return an object as it is, but for what controllers report."""
    found = place.get(body["kind"], body["metadata"]["name"])
    version = found["metadata"].pop("resourceVersion")
    found.pop("status", None)
    found["metadata"].pop("managedFields", None)
    # Controllers of Deployments and Jobs write to them; of all others not even the version changes.
    return found | ({} if body["kind"] in {"Deployment", "Job"} else {"version": version})


def test_an_object_of_every_kind_is_left_as_it_is(tenant: Kubectl) -> None:
    model = create_model(tenant, "taken")
    made = render_all_objects(model, SETTINGS)
    kinds = {body["kind"] for body in made}
    assert len(kinds) == 9
    for body in made:
        tenant("create", "--filename=-", stdin=json.dumps(as_foreign(body)))
    before = [describe(tenant, body) for body in made]
    for body in made:
        reconcile(tenant, model, (body,))
    reconcile(tenant, model)
    conditions = tenant.get(PLURAL, "taken")["status"]["conditions"]
    assert {c["reason"] for c in conditions if c["type"] == "Ready"} == {"NameTaken"}
    tenant("delete", PLURAL, "taken", "--wait=true")
    assert [describe(tenant, body) for body in made] == before


def test_the_account_default_is_the_namespaces(tenant: Kubectl) -> None:
    def look() -> Any:
        return tenant.get("serviceaccount", "default")

    before, model = look(), create_model(tenant, "default")
    reconcile(tenant, model)
    assert look() == before
    assert tenant.get("serviceaccount", "default.llmjp")["metadata"]["ownerReferences"]


def test_a_name_that_is_free_is_taken_once_and_kept(tenant: Kubectl) -> None:
    model = create_model(tenant, "free")
    reconcile(tenant, model)
    account = tenant.get("serviceaccount", "free")
    assert [owner["uid"] for owner in account["metadata"]["ownerReferences"]] == [model.uid]
    claim = tenant.get("persistentvolumeclaim", "free-store")
    assert claim["metadata"]["annotations"][OWNER] == f"{tenant.namespace}/free"
