"""Revisions of a model: the table of `llmjp rollback`. Pure, but for `list_revisions`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from llmjp_cli.cluster.status.fields import format_age
from llmjp_cli.console import build_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from llmjp_client.kube import KubeApi

Object = dict[str, Any]

GROUP: Final = "serving.llmjp.dev"
ROLLBACK_TO: Final = f"{GROUP}/rollback-to"
"""Annotation of a model: number of the revision to hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRevision:
    """One revision as people look at it."""

    number: int
    engine: str
    image: str
    state: str
    """running, failed, served, or empty: it was never ready."""
    created: str
    made_by: str


async def list_revisions(api: KubeApi, namespace: str, name: str) -> tuple[ListedRevision, ...]:
    """Return the revisions of a model, the newest first.

    Raises:
        ModelNotFound, KubeForbidden, KubeApiFailed: they cannot be read.
    """
    from llmjp_client.kube import KubeObjectNotFound

    model = await api.get_model(namespace, name)
    apps = f"/apis/apps/v1/namespaces/{namespace}"
    query = {"labelSelector": f"{GROUP}/model={name}"}
    items = await api.list_items(f"{apps}/controllerrevisions", query)
    try:
        deployment = await api.get(f"{apps}/deployments/{name}")
    except KubeObjectNotFound:
        deployment = {"metadata": {}}
    return read_revisions(items, model["metadata"]["uid"], deployment)


def read_revisions(
    items: Iterable[Object], owner: str, deployment: Object
) -> tuple[ListedRevision, ...]:
    """Return those of the objects that are revisions of the model with that uid, newest first."""
    running = (deployment["metadata"].get("annotations") or {}).get(f"{GROUP}/pods")
    owned = [
        item
        for item in items
        if owner in {each["uid"] for each in item["metadata"].get("ownerReferences") or ()}
    ]
    found = [_read_revision(item, running) for item in owned]
    return tuple(sorted(found, key=lambda revision: -revision.number))


def _read_revision(item: Object, running: str | None) -> ListedRevision:
    metadata, data = item["metadata"], item.get("data") or {}
    annotations = metadata.get("annotations") or {}
    containers = ((data.get("template") or {}).get("spec") or {}).get("containers") or [{}]
    states = (
        ("running", data.get("pods") is not None and data.get("pods") == running),
        ("failed", f"{GROUP}/failed" in annotations),
        ("served", f"{GROUP}/served" in annotations),
    )
    return ListedRevision(
        number=int(item.get("revision") or 0),
        engine=str(data.get("key") or "-"),
        image=str(containers[0].get("image") or "-"),
        state=next((state for state, holds in states if holds), ""),
        created=str(metadata.get("creationTimestamp") or ""),
        made_by=str(data.get("madeBy") or "-"),
    )


def render_revisions(revisions: Iterable[ListedRevision], now: float) -> Table:
    """Return one row per revision."""
    table = build_table()
    for column in ("REVISION", "ENGINE", "STATE", "AGE", "OPERATOR", "IMAGE"):
        table.add_column(column, no_wrap=column != "IMAGE")
    for revision in revisions:
        style = {"running": "bold green", "failed": "red"}.get(revision.state, "")
        table.add_row(
            str(revision.number),
            revision.engine[:12],
            Text(revision.state, style=style),
            format_age(revision.created, now),
            revision.made_by,
            Text(revision.image),
        )
    return table
