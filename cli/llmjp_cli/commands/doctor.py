"""`llmjp doctor`. Nothing heavy is imported before it runs."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from llmjp_cli.cluster.doctor.checks import Level
from llmjp_cli.console import build_table, open_console
from llmjp_cli.option_groups import expand_groups
from llmjp_cli.options import AsJson, Cluster, Namespace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmjp_cli.cluster.doctor.checks import Diagnosis
    from llmjp_cli.options import ClusterOptions

_STYLES = {
    Level.OK: "green",
    Level.WARN: "yellow",
    Level.FAIL: "bold red",
    Level.UNKNOWN: "magenta",
}


@expand_groups
def diagnose_cluster(
    namespace: Namespace = None,
    as_json: AsJson = False,
    *,
    cluster: Cluster,
) -> None:
    """Check that a cluster, and a namespace in it, has everything that models need. Read-only.

    "cannot tell" marks what you have no right to read. Exits with 1 if a check fails.

    Example: llmjp doctor -n team-a
    """
    results = asyncio.run(_examine(cluster, namespace))
    if as_json:
        rows = [
            {"check": r.check, "level": r.level.value, "message": r.message, "mend": r.advice}
            for r in results
        ]
        typer.echo(json.dumps(rows, ensure_ascii=False))
    else:
        _print_report(results)
    if any(result.level is Level.FAIL for result in results):
        raise typer.Exit(1)


async def _examine(cluster: ClusterOptions, namespace: str | None) -> list[Diagnosis]:
    from llmjp_client.kube import KubeApi  # first: it says what to install

    async with await KubeApi.connect(cluster.kubeconfig, cluster.context) as api:
        from llmjp_cli.cluster.doctor.overview import examine_cluster

        return await examine_cluster(api, namespace or api.namespace)


def _print_report(results: Sequence[Diagnosis]) -> None:
    console = open_console()
    table = build_table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for result in results:
        text = Text(result.message)
        if result.advice:
            style = "dim" if result.level is Level.OK else "cyan"
            text.append(f"\n{result.advice}", style=style)
        level = Text(result.level.value, style=_STYLES[result.level])
        table.add_row(level, Text(result.check), text)
    console.print(table)
    counts = {level: sum(r.level is level for r in results) for level in Level}
    console.print(", ".join(f"{n} {level.value}" for level, n in counts.items() if n))
