"""One model with its pods and events, observed for `llmjp status`."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmjp_cli.cluster.status.fields import get_status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_client.kube import KubeApi

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOverview:
    """One model and what belongs to it."""

    model: Object
    pods: tuple[Object, ...] = ()
    events: tuple[Object, ...] = ()
    unknown: tuple[str, ...] = ()
    """What could not be read, and why."""


async def observe_model(api: KubeApi, namespace: str, name: str) -> ModelOverview:
    """Read the model and what belongs to it; only the model itself is indispensable.

    Raises:
        LlmJpError: there is no such model, or it cannot be read.
    """
    from llmjp_client import LlmJpError

    model = await api.get_model(namespace, name)
    unknown: dict[str, None] = {}

    async def list_or_note(plural: str, query: Mapping[str, str]) -> list[Object]:
        try:
            return await api.list_items(f"/api/v1/namespaces/{namespace}/{plural}", query)
        except LlmJpError as error:
            unknown[f"about {plural}, because {error.reason}"] = None
            return []

    pods = await list_or_note("pods", {"labelSelector": f"serving.llmjp.dev/model={name}"})
    if job := (get_status(model).get("build") or {}).get("job"):
        # Models that need the same engine share its Job.
        selector = f"batch.kubernetes.io/job-name={job}"
        pods += await list_or_note("pods", {"labelSelector": selector})
    involved = f"involvedObject.kind=LlmJpModel,involvedObject.name={name}"
    events = await list_or_note("events", {"fieldSelector": involved})
    unique = {pod["metadata"]["name"]: pod for pod in pods}
    return ModelOverview(
        model=model, pods=tuple(unique.values()), events=tuple(events), unknown=tuple(unknown)
    )


async def wait_for_change(api: KubeApi, model: Object, seconds: int) -> None:
    """Return when the model changes, or after `seconds`: its pods may have changed by then."""
    from llmjp_client.kube import KubeForbidden, format_models_path

    metadata = model["metadata"]
    query = {
        "fieldSelector": f"metadata.name={metadata['name']}",
        "resourceVersion": metadata["resourceVersion"],
    }
    try:
        events = api.watch(format_models_path(metadata["namespace"]), query, seconds)
        async with aclosing(events):
            async for _ in events:
                return
    except KubeForbidden:  # may get, may not watch
        await asyncio.sleep(seconds)
