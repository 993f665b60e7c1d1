"""The controller against a cluster of three dicts: what it reads, and when it reads it again."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass, field

import pytest

from llmjp_operator.act import controller
from llmjp_operator.act.controller import Controller
from llmjp_operator.act.metrics import Metrics
from llmjp_operator.observe.cache import ObjectCache
from tests.operator.objects import Object, model
from tests.operator.scenes import SETTINGS

H100 = "NVIDIA-H100-80GB-HBM3"
ENGINE: Object = {
    "engine": {"backend": "tensorrt", "tensorParallel": 4, "maxSeqLen": 512},
    "hardware": {"gpuProduct": H100},
    "storage": {"size": "1Gi", "accessMode": "ReadWriteOnce"},
    "serving": {"maxSurge": 0},
}


def a_node(gpus: int) -> Object:
    labels = {"nvidia.com/gpu.product": H100}
    return {
        "metadata": {"name": "n", "labels": labels},
        "spec": {},
        "status": {
            "allocatable": {"nvidia.com/gpu": str(gpus)},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


@dataclass
class DictCluster:
    """Keeps what is applied."""

    node: Object
    lists_of_nodes: int = 0
    applied: dict[str, Object] = field(default_factory=dict)

    async def apply(self, wanted: Object, *, manager: str = "", status: bool = False) -> Object:
        del manager
        name = f"{wanted['kind']}/{wanted['metadata']['name']}"
        stored = copy.deepcopy(wanted)
        stored["metadata"] |= {"uid": name, "resourceVersion": "1"}
        self.applied[f"{name}/status" if status else name] = stored
        return stored

    async def remove(self, kind: str, namespace: str, name: str, uid: str = "") -> None:
        raise AssertionError(f"{kind} {namespace}/{name} {uid} is to stay")

    async def get(self, kind: str, namespace: str, name: str) -> None:
        del kind, namespace, name

    async def nodes(self) -> list[Object]:
        self.lists_of_nodes += 1
        return [self.node]

    async def names(self, kind: str, namespace: str, selector: str) -> tuple[int, list[Object]]:
        raise NotImplementedError

    async def log_tail(self, namespace: str, pod: str, container: str, lines: int) -> str:
        raise NotImplementedError

    async def tell(self, event: Object) -> None:
        del event

    def kinds(self) -> set[str]:
        return {name.partition("/")[0] for name in self.applied}

    def condition(self, name: str, kind: str) -> Object:
        conditions = self.applied[f"LlmJpModel/{name}/status"]["status"]["conditions"]
        return next(dict(c) for c in conditions if c["type"] == kind)


def see(cache: ObjectCache, name: str) -> tuple[str, str]:
    body = model(ENGINE, name)
    body["metadata"] |= {
        "namespace": "ns",
        "uid": f"uid-{name}",
        "resourceVersion": "1",
        "generation": 1,
    }
    cache.see_model(body)
    return "ns", name


def test_pods_are_made_for_nodes_as_they_are_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as they were some seconds ago: their GPUs may have been exchanged since."""
    monkeypatch.setattr(controller, "NODES_AFRESH_S", 0.0)
    cache, cluster = ObjectCache(), DictCluster(a_node(gpus=8))
    acting = Controller(cache, cluster, SETTINGS, Metrics(cache))
    asyncio.run(acting.reconcile(see(cache, "one")))
    assert "Job" in cluster.kinds()

    cluster.node = a_node(gpus=2)
    cluster.applied.clear()
    asyncio.run(acting.reconcile(see(cache, "two")))
    assert "Job" not in cluster.kinds()
    assert cluster.condition("two", "Accepted")["status"] == "False"


def test_many_models_need_few_lists_of_nodes() -> None:
    cache, cluster = ObjectCache(), DictCluster(a_node(gpus=8))
    acting = Controller(cache, cluster, SETTINGS, Metrics(cache))
    for i in range(20):
        asyncio.run(acting.reconcile(see(cache, f"model-{i}")))
    assert cluster.lists_of_nodes <= 3
