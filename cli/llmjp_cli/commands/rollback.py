"""`llmjp rollback`. Nothing heavy is imported before it runs."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from llmjp_cli.console import open_console
from llmjp_cli.option_groups import expand_groups
from llmjp_cli.options import AsJson, Cluster, Namespace

if TYPE_CHECKING:
    from llmjp_client.kube import KubeApi


@expand_groups
def roll_back(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An LlmJpModel.")],
    namespace: Namespace = None,
    to: Annotated[
        int | None,
        typer.Option("--to", min=1, metavar="REVISION", help="Hold the model at this revision."),
    ] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="Hold it no longer: go on with the spec.")
    ] = False,
    as_json: AsJson = False,
    *,
    cluster: Cluster,
) -> None:
    """List the revisions of a model, or hold it at one of them whatever its spec says.

    A revision is all that was rolled out together: engine, image, settings. Holding is an
    annotation of the model, so that a GitOps tool does not undo it; the spec waits until it is
    cleared.

    Example: llmjp rollback llmjp-172b --to 3
    """
    if to is not None and clear:
        raise typer.BadParameter("--to and --clear exclude each other")

    async def run() -> None:
        from llmjp_client.kube import KubeApi

        async with await KubeApi.connect(cluster.kubeconfig, cluster.context) as api:
            chosen = namespace or api.namespace
            if to is None and not clear:
                await _show_revisions(api, chosen, name, as_json=as_json)
            else:
                await _hold_revision(api, chosen, name, to)

    asyncio.run(run())


async def _show_revisions(api: KubeApi, namespace: str, name: str, *, as_json: bool) -> None:
    from llmjp_cli.cluster.revisions import list_revisions, render_revisions

    revisions = await list_revisions(api, namespace, name)
    if as_json:
        typer.echo(json.dumps([asdict(revision) for revision in revisions], ensure_ascii=False))
    elif not revisions:
        typer.echo(f"nothing has been rolled out of {name} in namespace {namespace} yet", err=True)
    else:
        open_console().print(render_revisions(revisions, time.time()))


async def _hold_revision(api: KubeApi, namespace: str, name: str, number: int | None) -> None:
    """Set the annotation, or remove it for None."""
    from llmjp_cli.cluster.revisions import ROLLBACK_TO, list_revisions
    from llmjp_client import InvalidRequest
    from llmjp_client.kube import format_models_path

    known = [revision.number for revision in await list_revisions(api, namespace, name)]
    if number is not None and number not in known:
        listed = ", ".join(map(str, known)) or "none yet"
        raise InvalidRequest(f"{name} has no revision {number}; it has: {listed}")
    value = None if number is None else str(number)
    patch = {"metadata": {"annotations": {ROLLBACK_TO: value}}}
    await api.patch(f"{format_models_path(namespace)}/{name}", patch)
    if number is None:
        typer.echo(f"{namespace}/{name} goes on with its spec", err=True)
    else:
        typer.echo(
            f"{namespace}/{name} is held at revision {number}: llmjp status {name} -n {namespace} "
            f"--watch; to go on with the spec: llmjp rollback {name} -n {namespace} --clear",
            err=True,
        )
