"""What is there, before anything is decided: fills the view in chunks, then queues all models.

Only then is kopf started; what it lists again has the same versions and is no news.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from llmjp_operator.names import KIND, MANAGED_BY, OPERATOR

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from llmjp_operator.queue import WorkQueue
    from llmjp_operator.view import Key, View

CHUNK: Final = 50
"""Objects of a kind that are asked for at once, and are in memory at once: with 200, the process is
a fifth larger afterwards, and not faster."""


class Lists(Protocol):
    """What a listing needs of an API server."""

    def objects(
        self, kind: str, namespace: str, selector: str, chunk: int
    ) -> AsyncIterator[dict[str, Any]]:
        """All objects of a kind, so many at a call; an empty namespace is all."""


async def fill(
    view: View,
    cluster: Lists,
    queue: WorkQueue[Key],
    *,
    kinds: tuple[str, ...],
    namespaces: tuple[str, ...],
) -> None:
    """See all models and all objects of ours, then queue every model.

    Raises:
        OperatorError: the API server could not be asked; to be begun anew.
    """
    for namespace in namespaces or ("",):
        for kind in kinds:
            async for body in cluster.objects(kind, namespace, f"{MANAGED_BY}={OPERATOR}", CHUNK):
                view.see(kind, body, shown=True)
        # Refused while the kind is not installed: kopf, started then, may never notice that it is.
        async for body in cluster.objects(KIND, namespace, "", CHUNK):
            view.see_model(body)
    for key in sorted(view.models):
        await queue.add(key)
