"""`llmjp bench`. Nothing heavy is imported before it runs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from llmjp_cli.endpoint import build_turn, connect_async
from llmjp_cli.option_groups import expand_groups
from llmjp_cli.options import AsJson, Endpoint, MaxTokens

Concurrency = Annotated[
    int, typer.Option("--concurrency", "-c", min=1, help="Requests in flight at once.")
]
NumRequests = Annotated[int, typer.Option("--requests", "-n", min=1, help="Requests to measure.")]
Prompts = Annotated[
    Path | None,
    typer.Option(
        exists=True, dir_okay=False, show_default="built-in ones", help="File: one per line."
    ),
]
Raw = Annotated[bool, typer.Option("--raw", help="Send prompts as they are, not as chat.")]
Warmup = Annotated[int, typer.Option(min=0, help="Requests before measuring.")]


@expand_groups
def benchmark_endpoint(
    *,
    concurrency: Concurrency = 4,
    requests: NumRequests = 32,
    prompts: Prompts = None,
    raw: Raw = False,
    max_tokens: MaxTokens = 128,
    warmup: Warmup = 1,
    as_json: AsJson = False,
    endpoint: Endpoint,
) -> None:
    """Measure an endpoint: time to first token, inter-token latency, tokens per second.

    Latencies are measured at this client; several tokens may arrive together.
    """
    from rich.console import Console

    from llmjp_cli.load_test import BUILT_IN_PROMPTS, LoadProfile, render_latencies, run_load_test

    texts = BUILT_IN_PROMPTS if prompts is None else _read_prompts(prompts)
    profile = LoadProfile(
        prompts=tuple(texts if raw else ([build_turn("user", text)] for text in texts)),
        concurrency=concurrency,
        num_requests=requests,
        num_warmup=warmup,
        max_tokens=max_tokens,
    )
    console = Console(stderr=True)
    summary, errors = asyncio.run(run_load_test(connect_async(endpoint), profile, console))
    if as_json:
        typer.echo(json.dumps(summary.to_object()))
    else:
        console.print(render_latencies(summary))
        console.print(summary.format_throughput())
    if errors:
        raise errors[0]


def _read_prompts(path: Path) -> list[str]:
    try:
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{path}: expected UTF-8: {error}") from error
    if not lines:
        raise typer.BadParameter(f"{path}: expected a prompt per line, found none")
    return lines
