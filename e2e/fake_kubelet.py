"""A fake kubelet: our pods end or become ready as a script decides, and nothing runs.

For clusters without nodes, where the API server and its controllers are real. A pod that is on no
node is removed at once when it is deleted, so that needs no fake.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from kubernetes.aio import client, config, watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Self

Object = dict[str, Any]

OURS: Final = "app.kubernetes.io/managed-by=llmjp-operator"
COMPONENT: Final = "app.kubernetes.io/component"
BUILD_SPEC: Final = "serving.llmjp.dev/build-spec"
TINY: Final = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 256,
    "intermediate_size": 512,
    "max_position_embeddings": 512,
    "num_attention_heads": 4,
    "num_hidden_layers": 6,
    "num_key_value_heads": 2,
    "torch_dtype": "bfloat16",
    "vocab_size": 4096,
}
"""config.json of the example model, as far as planning reads it."""


def make_ended_status(
    message: Object | str, exit_code: int = 0, container: str = "builder"
) -> Object:
    """Return the status of a pod whose container ended."""
    text = message if isinstance(message, str) else json.dumps(message)
    reason = "Completed" if exit_code == 0 else "Error"
    terminated = {"exitCode": exit_code, "reason": reason, "message": text}
    return {
        "phase": "Succeeded" if exit_code == 0 else "Failed",
        "containerStatuses": [_container(container, {"terminated": terminated}, ready=False)],
    }


def make_ready_status(container: str = "triton") -> Object:
    """Return the status of a pod that serves."""
    return {
        "phase": "Running",
        "conditions": [{"type": t, "status": "True"} for t in ("Ready", "ContainersReady")],
        "containerStatuses": [_container(container, {"running": {}}, ready=True)],
    }


def _container(name: str, state: Object, *, ready: bool) -> Object:
    return {
        "name": name,
        "ready": ready,
        "restartCount": 0,
        "image": "fake",
        "imageID": "fake",
        "state": state,
    }


def hash_text(text: str) -> str:
    """Return 20 hex digits that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def make_resolution(pod: Object) -> Object:
    """Return what a resolve pod reports: another digest for another source."""
    asked = " ".join(pod["spec"]["containers"][0]["args"][:4])
    return {
        "digest": hash_text(asked),
        "bytes": 11_000_000,
        "config": TINY,
        "revision": hash_text(asked) * 2,
    }


def make_artefact(pod: Object) -> Object:
    """Return what a build pod reports: another key for another spec, or step of it."""
    text = pod["metadata"]["annotations"][BUILD_SPEC]
    spec = json.loads(text)
    arguments = pod["spec"]["containers"][0]["args"]
    half = "--until" in arguments
    engine = spec["backend"] == "tensorrt" and not half
    kind = {"tensorrt": "ranks" if half else "engine", "torch": "ranks"}
    return {
        "key": hash_text(f"{half} {text}" if half else text),
        "kind": kind.get(spec["backend"], "unified"),
        "cache_hit": False,
        "bytes": 11_000_000,
        "tensor_parallel": spec["tensor_parallel"],
        "pipeline_parallel": spec["pipeline_parallel"],
        **(ENGINE if engine else {}),
    }


ENGINE: Final = {
    "gpu_product": "NVIDIA-H100-80GB-HBM3",
    "compute_capability": "9.0",
    "tensorrt_llm": "1.2.1",
    "tensorrt": "10.14.1.48",
}


def succeed(pod: Object) -> Object | None:
    """Return the next status of a pod if everything goes well, at once."""
    match pod["metadata"]["labels"].get(COMPONENT):
        case "resolve":
            return make_ended_status(make_resolution(pod))
        case "build":
            return make_ended_status(make_artefact(pod))
        case "collect":
            return make_ended_status("")
        case "serving":
            return make_ready_status()
        case _:
            return None


@dataclass
class FakeKubelets:
    """Sets the statuses of all our pods by `script`, from entering the block to leaving it."""

    kubeconfig: Path
    script: Callable[[Object], Object | None] = succeed
    """The status a pod should have next; None leaves it as it is. May be changed at any time."""
    updated: list[str] = field(default_factory=list)
    """Component and name of every pod whose status was set, in order."""
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30)

    async def _run(self) -> None:
        await config.load_kube_config(str(self.kubeconfig))
        async with client.ApiClient() as api:
            pods = client.CoreV1Api(api)
            while not self._stop.is_set():
                with suppress(client.ApiException, aiohttp.ClientError, TimeoutError):
                    await self._list_and_watch(pods)

    async def _list_and_watch(self, pods: Any) -> None:
        """List and watch for a second; the list asks the script again about pods it left alone."""
        listed = await pods.list_pod_for_all_namespaces(label_selector=OURS)
        for item in listed.items:
            await self._update(pods, pods.api_client.sanitize_for_serialization(item))
        async with watch.Watch() as events:
            async for event in events.stream(
                pods.list_pod_for_all_namespaces,
                label_selector=OURS,
                resource_version=listed.metadata.resource_version,
                timeout_seconds=1,
            ):
                if event["type"] in {"ADDED", "MODIFIED"}:
                    await self._update(pods, event["raw_object"])

    async def _update(self, pods: Any, pod: Object) -> None:
        status = pod.get("status") or {}
        if status.get("phase") in {"Succeeded", "Failed"} or "deletionTimestamp" in pod["metadata"]:
            return
        wanted = self.script(pod)
        if wanted is None or _shows(status, wanted):
            return
        metadata = pod["metadata"]
        component = metadata["labels"].get(COMPONENT, "")
        with suppress(client.ApiException):
            await pods.patch_namespaced_pod_status(
                metadata["name"], metadata["namespace"], {"status": wanted}
            )
            self.updated.append(f"{component} {metadata['name']}")


def _shows(status: Object, wanted: Object) -> bool:
    """Return whether a pod has that status already, as far as scripts care."""
    if status.get("phase") != wanted.get("phase"):
        return False
    kept = {c["name"]: c.get("state", {}).keys() for c in status.get("containerStatuses") or ()}
    return all(
        kept.get(c["name"]) == c["state"].keys() for c in wanted.get("containerStatuses") or ()
    )
