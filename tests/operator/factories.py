"""Values to decide about: models, observed objects, results of Jobs; tests say what matters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from e2e.fake_kubelet import ENGINE, TINY
from llmjp_builder.contracts.spec import Built, Failure, Kind, Resolution, Step
from llmjp_operator.api import Model, Status, parse_model
from llmjp_operator.observe.snapshot import (
    ObservedDeployment,
    ObservedJob,
    ObservedNode,
    ObservedPod,
    Snapshot,
    Termination,
)
from llmjp_operator.observe.store_record import FailedAttempts, StoreRecord
from llmjp_operator.settings import Images, Settings
from tests.operator.model_bodies import Object, make_model_body

NOW = 1_800_000_000.0
SETTINGS = Settings(
    namespace="system",
    identity="operator-1",
    images={
        "cpu": Images(builder="builder:cpu", runtime="runtime:cpu"),
        "1.2.1": Images(builder="builder:gpu", runtime="runtime:gpu"),
    },
)
FOUND = Resolution(digest="d" * 20, bytes=11_000_000, config=TINY, revision="0" * 40)
TORCH: Object = {"engine": {"backend": "torch", "maxSeqLen": 512}, "hardware": None}


def make_model(
    changes: Object | None = None, name: str = "a", *, status: Status | None = None, **other: Any
) -> Model:
    """Return a model of backend torch, with changes to its spec."""
    body = make_model_body({**TORCH, **(changes or {})}, name)
    body["metadata"] |= {"namespace": "ns", "uid": f"uid-{name}", "generation": 1}
    return replace(parse_model(body), status=status or Status(), **other)


def make_engine_model(changes: Object | None = None, name: str = "a", **other: Any) -> Model:
    """Return a model of backend tensorrt."""
    hardware = {"gpuProduct": "NVIDIA-H100-80GB-HBM3"}
    base: Object = {"engine": {"backend": "tensorrt", "maxSeqLen": 512}, "hardware": hardware}
    return make_model(base | (changes or {}), name, **other)


def make_snapshot(of: Model, **values: Any) -> Snapshot:
    """Return a snapshot in which there is nothing but the model, and `values`."""
    names = frozenset(model.name for model in values.get("sharing", (of,)))
    defaults = {"now": NOW, "sharing": (of,), "record": StoreRecord(), "model_names": names}
    return Snapshot(**{**defaults, **values})


def make_job(name: str, of: Model, **values: Any) -> ObservedJob:
    """Return a Job that runs."""
    defaults: dict[str, Any] = {
        "name": name,
        "uid": f"job-{name}",
        "component": "build",
        "model": of.name,
        "request": "",
        "pods": "",
        "attempt": 1,
        "owners": frozenset({of.uid}),
        "succeeded": False,
        "failed": False,
        "failure_reason": "",
        "finished_at": None,
        "deleting": False,
    }
    return ObservedJob(**defaults | values)


def make_pod(name: str = "p", **values: Any) -> ObservedPod:
    """Return a running pod of a Job."""
    defaults: dict[str, Any] = {
        "name": name,
        "component": "build",
        "model": "a",
        "job": "",
        "key": "",
        "phase": "Running",
        "ready": False,
        "deleting": False,
        "node": "",
        "waiting": "",
        "restarts": 0,
        "termination": None,
        "evicted": False,
    }
    return ObservedPod(**defaults | values)


def make_serving_pod(key: str, name: str = "s", **values: Any) -> ObservedPod:
    """Return a ready pod that serves an artefact."""
    return make_pod(name, **{"component": "serving", "key": key, "ready": True, **values})


def make_termination(message: str, exit_code: int = 0, reason: str = "") -> Termination:
    """Return how a container ended."""
    return Termination(
        exit_code=exit_code,
        reason=reason or ("Completed" if exit_code == 0 else "Error"),
        message=message,
    )


def make_failure(code: str = "hub_failed", *, retryable: bool = True) -> Failure:
    """Return the failure that a builder reports."""
    return Failure(code=code, step=Step.FETCH, message="no answer", retryable=retryable)


def make_failed_attempts(
    asked: str, *, attempts: int = 1, at: float = NOW, **values: Any
) -> FailedAttempts:
    """Return failed attempts as the record has them."""
    defaults: dict[str, Any] = {"failure": make_failure(), "job": "job-before"}
    return FailedAttempts(asked=asked, attempts=attempts, at=at, **defaults | values)


def make_artefact(key: str = "k" * 20, **values: Any) -> Built:
    """Return a checkpoint."""
    defaults: dict[str, Any] = {
        "kind": Kind.RANKS,
        "cache_hit": False,
        "bytes": 11_000_000,
        "tensor_parallel": 1,
        "pipeline_parallel": 1,
    }
    return Built(key=key, **defaults | values)


def make_engine(key: str = "e" * 20, **values: Any) -> Built:
    """Return an engine for an H100."""
    return make_artefact(key, **{"kind": Kind.ENGINE, **ENGINE, **values})


def make_deployment(**values: Any) -> ObservedDeployment:
    """Return a Deployment with one pod wanted, and one ready."""
    defaults: dict[str, Any] = {
        "uid": "deployment",
        "owners": frozenset({"uid-a"}),
        "observed": True,
        "key": "k" * 20,
        "pods": "",
        "failed_rollout": "",
        "wanted": 1,
        "replicas": 1,
        "updated": 1,
        "ready": 1,
        "available": 1,
        "stalled": "",
    }
    return ObservedDeployment(**defaults | values)


def make_node(name: str = "n", gpus: int = 8, **values: Any) -> ObservedNode:
    """Return a node with H100s, as GPU feature discovery labels it."""
    labels = {
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
        "nvidia.com/gpu.compute.major": "9",
        "nvidia.com/gpu.compute.minor": "0",
        **values.pop("labels", {}),
    }
    return ObservedNode(name=name, labels=labels, gpus=gpus, **{"schedulable": True, **values})
