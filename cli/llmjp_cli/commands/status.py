"""`llmjp status`. Nothing heavy at import."""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from llmjp_cli.cluster.kube import (
    Context,
    Forbidden,
    Kube,
    Kubeconfig,
    KubeError,
    Namespace,
    models_path,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_cli.cluster.status.screen import Seen

Object = dict[str, Any]

_PIPED_WIDTH = 160
_LOOK_AGAIN_S = 2
"""Between two looks, where the model itself does not change: pods and events do."""


def status(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Of an LlmJpModel.")] = None,
    namespace: Namespace = None,
    everywhere: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="The models of all namespaces.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Until NAME is Available, then exit with 0.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """What a model in the cluster does, what it waits for, and what to do about it.

    Without NAME: a table of all models of the namespace.

    Example: llmjp status llmjp-172b --watch
    """
    if name is None and watch:
        raise typer.BadParameter("--watch needs the NAME of a model")
    if everywhere and (name is not None or namespace is not None):
        raise typer.BadParameter("-A shows all models: leave NAME and -n out")
    if watch and as_json:
        raise typer.BadParameter("--watch and --json do not go together")
    with closing(Kube.connect(kubeconfig, context)) as kube:
        here = namespace or kube.namespace
        if name is None:
            _list(kube, None if everywhere else here, as_json=as_json)
        elif watch:
            _watch(kube, here, name)
        else:
            _once(kube, here, name, as_json=as_json)


def _list(kube: Kube, namespace: str | None, *, as_json: bool) -> None:
    from llmjp_cli.cluster.status.screen import listing

    models = kube.items(models_path(namespace))
    if as_json:
        typer.echo(json.dumps(models, ensure_ascii=False))
    elif not models:
        where = f"namespace {namespace}" if namespace else "the cluster"
        typer.echo(f"no LlmJpModel in {where}", err=True)
    else:
        _console().print(listing(models, time.time(), namespaces=namespace is None))


def _once(kube: Kube, namespace: str, name: str, *, as_json: bool) -> None:
    from llmjp_cli.cluster.status.screen import next_steps, screen

    seen = look(kube, namespace, name)
    if not as_json:
        _console().print(screen(seen, time.time()))
        return
    document = {
        "model": seen.model,
        "pods": seen.pods,
        "events": seen.events,
        "unknown": seen.unknown,
        "next": list(next_steps(seen)),
    }
    typer.echo(json.dumps(document, ensure_ascii=False))


def _watch(kube: Kube, namespace: str, name: str) -> None:
    from llmjp_cli.cluster.status.screen import available, line, screen

    if not sys.stdout.isatty():
        said = ""
        while True:
            model = kube.model(namespace, name)
            if (now := line(model)) != said:
                said = now
                typer.echo(f"{datetime.now(UTC):%H:%M:%SZ}  {said}")
            if available(model):
                return
            _pause(kube, model)
    from rich.live import Live

    with Live(console=_console(), auto_refresh=False) as live:
        while True:
            seen = look(kube, namespace, name)
            live.update(screen(seen, time.time()), refresh=True)
            if available(seen.model):
                return
            _pause(kube, seen.model)


def _pause(kube: Kube, model: Object) -> None:
    """Until the model changes, or its pods may have."""
    metadata = model["metadata"]
    query = {
        "fieldSelector": f"metadata.name={metadata['name']}",
        "resourceVersion": metadata["resourceVersion"],
    }
    try:
        kube.wait_for_change(models_path(metadata["namespace"]), query, _LOOK_AGAIN_S)
    except Forbidden:  # may get, may not watch
        time.sleep(_LOOK_AGAIN_S)


def look(kube: Kube, namespace: str, name: str) -> Seen:
    """The model and what belongs to it; only the model itself is indispensable.

    Raises:
        KubeError: there is no such model, or it may not be looked at.
    """
    from llmjp_cli.cluster.status.screen import Seen

    model = kube.model(namespace, name)
    unknown: list[str] = []

    def listed(what: str, query: Mapping[str, str]) -> list[Object]:
        try:
            return kube.items(f"/api/v1/namespaces/{namespace}/{what}", query)
        except KubeError as exc:
            if (line := f"about {what}, because {exc}") not in unknown:
                unknown.append(line)
            return []

    pods = listed("pods", {"labelSelector": f"serving.llmjp.dev/model={name}"})
    job = ((model.get("status") or {}).get("build") or {}).get("job")
    if job:
        # Models that want the same engine share its Job.
        pods += listed("pods", {"labelSelector": f"batch.kubernetes.io/job-name={job}"})
    unique = {pod["metadata"]["name"]: pod for pod in pods}
    about = f"involvedObject.kind=LlmJpModel,involvedObject.name={name}"
    events = listed("events", {"fieldSelector": about})
    return Seen(
        model=model, pods=tuple(unique.values()), events=tuple(events), unknown=tuple(unknown)
    )


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)
