"""`llmjp status`. Nothing heavy is imported before it runs."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmjp_cli.console import open_console
from llmjp_cli.option_groups import expand_groups
from llmjp_cli.options import AsJson, Cluster, Namespace

if TYPE_CHECKING:
    from llmjp_client.kube import KubeApi

Object = dict[str, Any]

POLL_S = 2
"""Between two observations while the model itself does not change: pods and events may."""


@expand_groups
def show_status(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="An LlmJpModel.")] = None,
    namespace: Namespace = None,
    everywhere: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="List the models of all namespaces.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Watch until NAME is Available; then exit with 0.")
    ] = False,
    as_json: AsJson = False,
    *,
    cluster: Cluster,
) -> None:
    """Show what a model in the cluster is doing, what it waits for, and what to do about it.

    Without NAME: a table of all models of the namespace.

    Example: llmjp status llmjp-172b --watch
    """
    if name is None and watch:
        raise typer.BadParameter("--watch needs the NAME of a model")
    if everywhere and (name is not None or namespace is not None):
        raise typer.BadParameter("-A lists all models: leave out NAME and -n")
    if watch and as_json:
        raise typer.BadParameter("--watch and --json exclude each other")

    async def run() -> None:
        from llmjp_client.kube import KubeApi

        async with await KubeApi.connect(cluster.kubeconfig, cluster.context) as api:
            chosen = namespace or api.namespace
            if name is None:
                await _show_listing(api, None if everywhere else chosen, as_json=as_json)
            elif watch:
                await _watch_model(api, chosen, name)
            else:
                await _show_model(api, chosen, name, as_json=as_json)

    asyncio.run(run())


async def _show_listing(api: KubeApi, namespace: str | None, *, as_json: bool) -> None:
    from llmjp_cli.cluster.status.screen import render_listing
    from llmjp_client.kube import format_models_path

    models = await api.list_items(format_models_path(namespace))
    if as_json:
        typer.echo(json.dumps(models, ensure_ascii=False))
    elif not models:
        where = f"namespace {namespace}" if namespace else "the cluster"
        typer.echo(f"no LlmJpModel in {where}", err=True)
    else:
        open_console().print(render_listing(models, time.time(), namespaces=namespace is None))


async def _show_model(api: KubeApi, namespace: str, name: str, *, as_json: bool) -> None:
    from llmjp_cli.cluster.status.advice import suggest_next_steps
    from llmjp_cli.cluster.status.overview import observe_model
    from llmjp_cli.cluster.status.screen import render_screen

    overview = await observe_model(api, namespace, name)
    if not as_json:
        open_console().print(render_screen(overview, time.time()))
        return
    document = {
        "model": overview.model,
        "pods": overview.pods,
        "events": overview.events,
        "unknown": overview.unknown,
        "next": list(suggest_next_steps(overview)),
    }
    typer.echo(json.dumps(document, ensure_ascii=False))


async def _watch_model(api: KubeApi, namespace: str, name: str) -> None:
    """Return once the model is Available."""
    if sys.stdout.isatty():
        await _watch_on_screen(api, namespace, name)
    else:
        await _watch_in_lines(api, namespace, name)


async def _watch_in_lines(api: KubeApi, namespace: str, name: str) -> None:
    """Print a line with the time whenever it changes."""
    from llmjp_cli.cluster.status.fields import format_line, is_available
    from llmjp_cli.cluster.status.overview import wait_for_change

    printed = ""
    while True:
        model = await api.get_model(namespace, name)
        if (line := format_line(model)) != printed:
            printed = line
            typer.echo(f"{datetime.now(UTC):%H:%M:%SZ}  {line}")
        if is_available(model):
            return
        await wait_for_change(api, model, POLL_S)


async def _watch_on_screen(api: KubeApi, namespace: str, name: str) -> None:
    """Redraw the screen."""
    from rich.live import Live

    from llmjp_cli.cluster.status.fields import is_available
    from llmjp_cli.cluster.status.overview import observe_model, wait_for_change
    from llmjp_cli.cluster.status.screen import render_screen

    with Live(console=open_console(), auto_refresh=False) as live:
        while True:
            overview = await observe_model(api, namespace, name)
            live.update(render_screen(overview, time.time()), refresh=True)
            if is_available(overview.model):
                return
            await wait_for_change(api, overview.model, POLL_S)
