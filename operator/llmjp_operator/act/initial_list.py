"""The initial list: fills the cache in chunks before anything is decided, then queues all models.

kopf is started after it; what kopf lists again has the same versions and is no news.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from llmjp_operator.errors import OperatorError
from llmjp_operator.names import KIND, MANAGED_BY, OPERATOR

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from llmjp_operator.act.work_queue import WorkQueue
    from llmjp_operator.observe.cache import Key, ObjectCache

CHUNK: Final = 50
"""Objects per page of a list, which are in memory at once: with 200, the process is a fifth larger
afterwards, and not faster."""


class ObjectLister(Protocol):
    """The part of an API server that a list needs."""

    def list_objects(
        self, kind: str, namespace: str, selector: str, chunk: int
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield all objects of a kind, so many at a call; an empty namespace is all."""


async def fill_cache(
    cache: ObjectCache,
    cluster: ObjectLister,
    queue: WorkQueue[Key],
    *,
    kinds: tuple[str, ...],
    namespaces: tuple[str, ...],
    wait: Callable[[OperatorError], Awaitable[None]],
) -> None:
    """List all models and all objects of ours, then queue every model.

    A list that fails is tried again, those before it are not: where every third call fails, ten
    lists in a row hardly ever succeed.

    Args:
        cache: gets every object.
        cluster: the API server.
        queue: gets every model.
        kinds: kinds of our objects.
        namespaces: empty for all.
        wait: is told why a list failed; returns when to try again.
    """
    for namespace in namespaces or ("",):
        for kind in kinds:
            await _list_kind(cache, cluster, (kind, namespace, f"{MANAGED_BY}={OPERATOR}"), wait)
        # Refused while the kind is not installed: kopf, started then, may never notice that it is.
        await _list_kind(cache, cluster, (KIND, namespace, ""), wait)
    for key in sorted(cache.models):
        await queue.add(key)


async def _list_kind(
    cache: ObjectCache,
    cluster: ObjectLister,
    query: tuple[str, str, str],
    wait: Callable[[OperatorError], Awaitable[None]],
) -> None:
    """Put a list into the cache; `query` is kind, namespace and label selector."""
    kind, namespace, selector = query
    while True:
        try:
            async for body in cluster.list_objects(kind, namespace, selector, CHUNK):
                if kind == KIND:
                    cache.put_model(body)
                else:
                    cache.put(kind, body, from_watch=True)
        except OperatorError as exc:
            await wait(exc)
        else:
            return
