"""Notices deletions that no watch told of. Reads names only, writes nothing.

After a watch that had to begin anew kopf lists what is there, but says nothing of what is there no
longer.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from llmjp_operator.errors import OperatorError
from llmjp_operator.names import MANAGED_BY, OPERATOR

if TYPE_CHECKING:
    from llmjp_operator.act.api_client import Cluster
    from llmjp_operator.act.work_queue import WorkQueue
    from llmjp_operator.observe.cache import Key, ObjectCache

_log = logging.getLogger(__name__)

KIND_OF_MODELS = "LlmJpModel"
FIRST_S: Final = 15.0
"""Nobody tells of what goes between our first listing and kopf's, so the first sweep is soon."""


async def sweeping(
    cache: ObjectCache,
    cluster: Cluster,
    queue: WorkQueue[Key],
    *,
    kinds: tuple[str, ...],
    namespaces: tuple[str, ...],
    every_s: float,
) -> None:
    """Sweep for ever."""
    pause_s = min(FIRST_S, every_s)
    while True:
        await asyncio.sleep(pause_s)
        pause_s = every_s
        try:
            await sweep(cache, cluster, queue, kinds=kinds, namespaces=namespaces)
        except OperatorError as exc:
            _log.warning("sweep failed", extra={"reason": str(exc)})
        except Exception:  # noqa: BLE001  one that fails must not be the last one
            _log.exception("sweep failed")


async def sweep(
    cache: ObjectCache,
    cluster: Cluster,
    queue: WorkQueue[Key],
    *,
    kinds: tuple[str, ...],
    namespaces: tuple[str, ...],
) -> None:
    """Forget what is gone, and look at the models that it was about.

    Raises:
        OperatorError: the API server could not be asked; what was swept stays swept.
    """
    for kind in kinds:
        listed, version = await _listed(cluster, kind, namespaces, f"{MANAGED_BY}={OPERATOR}")
        for namespace, one in cache.lost(kind, namespaces, listed, version):
            labels = {label: value for _, label, value in one.groups}
            for key in sorted(cache.concerned(namespace, labels)):
                await queue.add(key)
    listed, _ = await _listed(cluster, KIND_OF_MODELS, namespaces, "")
    known = {key: model.uid for key, model in cache.models.items()}
    for key, uid in known.items():
        if listed.get(key) != uid and (not namespaces or key[0] in namespaces):
            await _lose_if_gone(cache, cluster, queue, key)


async def _lose_if_gone(
    cache: ObjectCache, cluster: Cluster, queue: WorkQueue[Key], key: Key
) -> None:
    """A model that was not listed may have been made since."""
    if await cluster.get(KIND_OF_MODELS, *key) is None:
        queue.forget(key)
        for other in cache.lose_model(*key):
            await queue.add(other)


async def _listed(
    cluster: Cluster, kind: str, namespaces: tuple[str, ...], selector: str
) -> tuple[dict[Key, str], int]:
    listed, versions = {}, []
    for namespace in namespaces or ("",):
        version, items = await cluster.list_metadata(kind, namespace, selector)
        versions.append(version)
        for item in items:
            metadata = item["metadata"]
            listed[metadata.get("namespace", ""), metadata["name"]] = metadata["uid"]
    return listed, min(versions)
