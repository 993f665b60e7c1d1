"""Reading a cluster for `llmjp doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from llmjp_cli.cluster.doctor.checks import (
    RIGHTS,
    ClusterOverview,
    Diagnosis,
    Level,
    Unknown,
    check_cluster,
)
from llmjp_cli.cluster.doctor.gpus import check_gpus
from llmjp_cli.cluster.doctor.models import check_models, list_references
from llmjp_client import LlmJpError
from llmjp_client.kube import (
    JSON,
    METADATA_ONLY,
    KubeApiUnreachable,
    KubeObjectNotFound,
    format_models_path,
)
from llmjp_operator.names import CRD, LEASE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from llmjp_cli.cluster.doctor.checks import Answer
    from llmjp_client.kube import KubeApi

Object = dict[str, Any]
T = TypeVar("T")

DEFAULT_OPERATOR_NAMESPACE = "llmjp-system"
_PLURALS = {"Secret": "secrets", "ConfigMap": "configmaps"}
_RUNNING = {"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"}


async def examine_cluster(api: KubeApi, namespace: str) -> list[Diagnosis]:
    """Read everything and return the results of all checks."""
    try:
        await api.get("/version")
    except KubeApiUnreachable as error:
        return [Diagnosis("API server", Level.FAIL, error.reason, error.hint)]
    except LlmJpError:
        pass  # closed to this user: the check of the version says so
    overview = await observe_cluster(api, namespace)
    return [*check_cluster(overview), *check_gpus(overview), *check_models(overview)]


async def observe_cluster(api: KubeApi, namespace: str) -> ClusterOverview:
    """Read everything that the checks look at."""
    apps, core, space = "/apis/apps/v1", "/api/v1", f"namespaces/{namespace}"
    labels = {"labelSelector": "app.kubernetes.io/name=llmjp-operator"}
    operators = await _list(api, f"{apps}/deployments", labels)
    models = await _list(api, format_models_path(namespace))
    lease = f"namespaces/{_find_operator_namespace(operators)}/leases/{LEASE}"
    crd = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{CRD}"
    return ClusterOverview(
        namespace=namespace,
        version=await _answer(api.get("/version")),
        definition=await _find(api, crd),
        operators=operators,
        lease=await _find(api, f"/apis/coordination.k8s.io/v1/{lease}"),
        rights={right: await _review_right(api, namespace, right) for right in RIGHTS},
        nodes=await _list(api, f"{core}/nodes"),
        pods=await _list(api, f"{core}/pods", _RUNNING),
        runtime_classes=await _list(api, "/apis/node.k8s.io/v1/runtimeclasses"),
        storage_classes=await _list(api, "/apis/storage.k8s.io/v1/storageclasses"),
        namespace_object=await _find(api, f"{core}/{space}"),
        network_policies=await _list(api, f"/apis/networking.k8s.io/v1/{space}/networkpolicies"),
        models=models,
        claims=await _list(api, f"{core}/{space}/persistentvolumeclaims"),
        exists={
            (kind, name): await _exists(api, f"{core}/{space}/{_PLURALS[kind]}/{name}")
            for body in (() if isinstance(models, Unknown) else models)
            for kind, name in list_references(body)
        },
        now=api.estimate_server_time(),
    )


def _find_operator_namespace(operators: Answer[list[Object]]) -> str:
    if isinstance(operators, Unknown) or not operators:
        return DEFAULT_OPERATOR_NAMESPACE
    return str(operators[0]["metadata"]["namespace"])


async def _answer(call: Awaitable[T]) -> Answer[T]:
    """Return what a call returns; Unknown where it is refused or fails."""
    try:
        return await call
    except LlmJpError as error:
        return Unknown(error.reason)


async def _list(
    api: KubeApi, path: str, query: Mapping[str, str] | None = None
) -> Answer[list[Object]]:
    return await _answer(api.list_items(path, query))


async def _find(api: KubeApi, path: str, *, accept: str = JSON) -> Answer[Object | None]:
    """Return an object; None where there is none."""
    try:
        return await api.get(path, accept=accept)
    except KubeObjectNotFound:
        return None
    except LlmJpError as error:
        return Unknown(error.reason)


async def _exists(api: KubeApi, path: str) -> Answer[bool]:
    """Return whether an object exists; of a Secret, only the metadata is read."""
    found = await _find(api, path, accept=METADATA_ONLY)
    return found if isinstance(found, Unknown) else found is not None


async def _review_right(api: KubeApi, namespace: str, right: tuple[str, str, str]) -> Answer[bool]:
    verb, group, resource = right
    name, _, subresource = resource.partition("/")
    attributes = {
        "namespace": namespace,
        "verb": verb,
        "group": group,
        "resource": name,
        "subresource": subresource,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    reviewed = await _answer(api.create(path, review))
    return reviewed if isinstance(reviewed, Unknown) else bool(reviewed["status"]["allowed"])
