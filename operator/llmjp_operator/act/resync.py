"""Periodic resync: finds deletions that the watches missed. Reads metadata only, writes nothing.

When a watch has to start again kopf lists what exists, but reports nothing about what is gone.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from llmjp_operator.errors import OperatorError
from llmjp_operator.names import KIND, MANAGED_BY, OPERATOR

if TYPE_CHECKING:
    from llmjp_operator.act.api_client import Cluster
    from llmjp_operator.act.work_queue import WorkQueue
    from llmjp_operator.observe.cache import Key, ObjectCache

_log = logging.getLogger(__name__)

FIRST_S: Final = 15.0
"""The first is soon: deletions between our initial list and kopf's reach no watch."""


async def resync_periodically(
    cache: ObjectCache,
    cluster: Cluster,
    queue: WorkQueue[Key],
    *,
    kinds: tuple[str, ...],
    namespaces: tuple[str, ...],
    every_s: float,
) -> None:
    """Resync for ever."""
    pause_s = min(FIRST_S, every_s)
    while True:
        await asyncio.sleep(pause_s)
        pause_s = every_s
        try:
            await resync_once(cache, cluster, queue, kinds=kinds, namespaces=namespaces)
        except OperatorError as exc:
            _log.warning("resync failed", extra={"reason": str(exc)})
        except Exception:  # noqa: BLE001  one that fails must not be the last one
            _log.exception("resync failed")


async def resync_once(
    cache: ObjectCache,
    cluster: Cluster,
    queue: WorkQueue[Key],
    *,
    kinds: tuple[str, ...],
    namespaces: tuple[str, ...],
) -> None:
    """Forget what is gone, and queue the models that it concerns.

    Raises:
        OperatorError: the first list that failed; all others are done.
    """
    failures = []
    for kind in kinds:
        try:
            await _resync_kind(cache, cluster, queue, kind, namespaces=namespaces)
        except OperatorError as exc:
            failures.append(exc)
    try:
        await _resync_models(cache, cluster, queue, namespaces=namespaces)
    except OperatorError as exc:
        failures.append(exc)
    if failures:
        raise failures[0]


async def _resync_kind(
    cache: ObjectCache,
    cluster: Cluster,
    queue: WorkQueue[Key],
    kind: str,
    *,
    namespaces: tuple[str, ...],
) -> None:
    listed, version = await _list_uids(cluster, kind, namespaces, f"{MANAGED_BY}={OPERATOR}")
    for namespace, one in cache.remove_missing(kind, namespaces, listed, version):
        labels = {label: value for _, label, value in one.groups}
        for key in sorted(cache.find_models(namespace, labels)):
            await queue.add(key)


async def _resync_models(
    cache: ObjectCache, cluster: Cluster, queue: WorkQueue[Key], *, namespaces: tuple[str, ...]
) -> None:
    listed, _ = await _list_uids(cluster, KIND, namespaces, "")
    known = {key: model.uid for key, model in cache.models.items()}
    for key, uid in known.items():
        if listed.get(key) != uid and (not namespaces or key[0] in namespaces):
            await _forget_if_gone(cache, cluster, queue, key)


async def _forget_if_gone(
    cache: ObjectCache, cluster: Cluster, queue: WorkQueue[Key], key: Key
) -> None:
    """Forget a model that was not listed, unless it was created since."""
    if await cluster.get(KIND, *key) is None:
        queue.forget(key)
        for other in cache.remove_model(*key):
            await queue.add(other)


async def _list_uids(
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
