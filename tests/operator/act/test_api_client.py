"""Lists of the real API server, part by part."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from kubernetes.aio import client, config

from hack.local_cluster import Kubectl
from llmjp_operator.act import api_client
from llmjp_operator.act.api_client import KubeCluster

pytestmark = pytest.mark.cluster

NAMES = {f"m{i}" for i in range(5)}
OURS = "team=ours"


def asked(
    kubectl: Kubectl, question: Callable[[KubeCluster], Awaitable[Any]]
) -> tuple[Any, list[tuple[str, str]]]:
    """The answer, and the calls that it took."""
    calls: list[tuple[str, str]] = []

    async def ask() -> Any:
        await config.load_kube_config(str(kubectl.kubeconfig))
        async with client.ApiClient() as api:
            told = KubeCluster(api, asyncio.Semaphore(2), lambda *call: calls.append(call))
            return await question(told)

    return asyncio.run(ask()), calls


@pytest.fixture
def filled(namespace: Kubectl) -> Kubectl:
    """Five ConfigMaps of ours, and whatever else there is."""
    namespace.apply(
        *(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name, "labels": {"team": "ours"}},
                "data": {"a": "b"},
            }
            for name in sorted(NAMES)
        )
    )
    return namespace


def test_metadata_is_listed_in_chunks(filled: Kubectl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_client, "METADATA_AT_ONCE", 2)
    (version, items), calls = asked(
        filled, lambda c: c.list_metadata("ConfigMap", filled.namespace, OURS)
    )
    assert version > 0
    assert {item["metadata"]["name"] for item in items} == NAMES
    assert all(item["metadata"].keys() == {"namespace", "name", "uid"} for item in items)
    assert calls == [("GET", "ConfigMap")] * 3


def test_objects_come_in_parts(filled: Kubectl) -> None:
    async def all_of(told: KubeCluster) -> list[Any]:
        return [obj async for obj in told.list_objects("ConfigMap", filled.namespace, OURS, 3)]

    found, calls = asked(filled, all_of)
    assert {obj["metadata"]["name"] for obj in found} == NAMES
    assert all(obj["data"] == {"a": "b"} for obj in found)
    assert calls == [("GET", "ConfigMap")] * 2


def test_an_empty_list_is_no_error(namespace: Kubectl) -> None:
    async def none_of(told: KubeCluster) -> list[Any]:
        return [
            obj async for obj in told.list_objects("ConfigMap", namespace.namespace, "team=x", 3)
        ]

    assert asked(namespace, none_of)[0] == []
    (version, items), _ = asked(
        namespace, lambda c: c.list_metadata("Pod", namespace.namespace, "team=x")
    )
    assert (version > 0, items) == (True, [])
