"""`llmjp serve`."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

LOCAL = "127.0.0.1"


def serve(
    artefact: Annotated[Path, typer.Argument(help="The folder that `llmjp build` printed.")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = LOCAL,
    http_port: Annotated[int, typer.Option(help="KServe v2 HTTP, /generate_stream.")] = 8000,
    grpc_port: Annotated[int, typer.Option(help="KServe v2 gRPC.")] = 8001,
    metrics_port: Annotated[int, typer.Option(help="Prometheus metrics.")] = 8002,
    health_port: Annotated[int, typer.Option(help="/readyz and /livez.")] = 8003,
    max_batch_size: Annotated[
        int, typer.Option(min=1, help="Requests stepped together; more wait.")
    ] = 32,
    max_queue: Annotated[
        int, typer.Option(min=0, help="Requests that may wait; more are refused.")
    ] = 256,
    max_context: Annotated[
        int | None, typer.Option(min=2, help="Tokens of prompt and reply; default: the model's.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto takes a GPU.")] = "auto",
    dtype: Annotated[
        str, typer.Option(help="Arithmetic: float32, bfloat16, float16; auto: float32 on CPU.")
    ] = "auto",
    num_threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; default: all cores.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Triton's own log.")] = False,
) -> None:
    """Serve an artefact on a real Triton, until Ctrl-C.

    Two models answer: `llmjp` with the model card's defaults and `ensemble` with NVIDIA's.
    """
    from llmjp_builder.uses import renewed_use
    from llmjp_runtime.server.process import Listen, TritonServer
    from llmjp_runtime.serving import check_artefact
    from llmjp_runtime.settings import ServingSettings

    check_artefact(artefact, "torch")
    settings = ServingSettings(
        artefact=artefact.resolve(),
        max_batch_size=max_batch_size,
        max_queue=max_queue,
        max_context=max_context,
        device=device,
        compute_dtype=dtype,
        num_threads=num_threads,
        health_host=host,
        health_port=health_port,
    )
    listen = Listen(host=host, http_port=http_port, grpc_port=grpc_port, metrics_port=metrics_port)
    console = Console(stderr=True)
    user = f"llmjp serve, process {os.getpid()} on {socket.gethostname()}"[:80]
    with (
        renewed_use(artefact.resolve(), user),
        TritonServer(settings, listen, verbose=verbose) as server,
    ):
        signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        server.wait_ready()
        console.print(
            f"[bold green]ready[/]  gRPC {server.grpc_endpoint}  HTTP {host}:{http_port}  "
            f"metrics {host}:{metrics_port}  health {host}:{health_port}"
        )
        console.print(f"next   llmjp chat --endpoint {server.grpc_endpoint}")
        status = server.wait()
        if status:
            raise typer.Exit(1)
