"""`llmjp serve`."""

from __future__ import annotations

import os
import signal
import socket
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from llmjp_cli.termination import reason_left

if TYPE_CHECKING:
    from llmjp_runtime.server.listen import Listen, Tls
    from llmjp_runtime.settings import Backend

LOCAL = "127.0.0.1"


class Backends(StrEnum):
    """What `--backend` takes."""

    AUTO = "auto"
    TENSORRT = "tensorrt"
    PYTORCH = "pytorch"
    VLLM = "vllm"
    TORCH = "torch"


_READ_BY = {
    "device": ("torch",),
    "dtype": ("torch",),
    "num_threads": ("torch",),
    "kv_cache_fraction": ("tensorrt", "pytorch"),
    "tp": ("pytorch",),
    "pp": ("pytorch",),
}
"""Options that only some backends read."""


def serve(
    context: typer.Context,
    artefact: Annotated[Path, typer.Argument(help="The folder that `llmjp build` printed.")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = LOCAL,
    http_port: Annotated[int, typer.Option(help="KServe v2 HTTP, /generate_stream.")] = 8000,
    grpc_port: Annotated[int, typer.Option(help="KServe v2 gRPC.")] = 8001,
    metrics_port: Annotated[int, typer.Option(help="Prometheus metrics.")] = 8002,
    health_port: Annotated[int, typer.Option(help="/readyz and /livez.")] = 8003,
    backend: Annotated[
        Backends, typer.Option(help="auto: what the artefact was made for.")
    ] = Backends.AUTO,
    max_batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Requests stepped together; default: the engine's, else 32."),
    ] = None,
    max_queue: Annotated[
        int, typer.Option(min=0, help="Requests that may wait; more are refused.")
    ] = 256,
    max_context: Annotated[
        int | None, typer.Option(min=2, help="Tokens of prompt and reply; default: the model's.")
    ] = None,
    kv_cache_fraction: Annotated[
        float,
        typer.Option(min=0.01, max=0.99, help="Of the GPU memory that the weights leave free."),
    ] = 0.9,
    tp: Annotated[int, typer.Option(min=1, help="pytorch: GPUs that share each layer.")] = 1,
    pp: Annotated[int, typer.Option(min=1, help="pytorch: stages the layers are split in.")] = 1,
    device: Annotated[
        str, typer.Option(help="torch: cpu, cuda, cuda:1, ...; auto takes a GPU.")
    ] = "auto",
    dtype: Annotated[
        str,
        typer.Option(help="torch: float32, bfloat16, float16; auto: float32 on CPU."),
    ] = "auto",
    num_threads: Annotated[
        int | None, typer.Option(min=1, help="torch: CPU threads; default: all that may be used.")
    ] = None,
    start_timeout: Annotated[
        float, typer.Option(min=1, help="Seconds until it must be ready; large engines load long.")
    ] = 3600,
    drain_grace: Annotated[
        float,
        typer.Option(min=0, help="Seconds for which `llmjp drain` leaves it taking requests."),
    ] = 5,
    exit_timeout: Annotated[
        float,
        typer.Option(min=0, help="Seconds from SIGTERM until what still runs is cut off."),
    ] = 30,
    tls_cert: Annotated[
        Path | None,
        typer.Option(help="PEM certificates for gRPC; HTTP then answers this machine only."),
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The first one's PEM key.")] = None,
    termination_message: Annotated[
        Path | None,
        typer.Option(
            envvar="LLMJP_TERMINATION_MESSAGE",
            help="File for a JSON object that says why the server did not start, or failed.",
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Triton's own log.")] = False,
) -> None:
    """Serve an artefact on a real Triton, until Ctrl-C or SIGTERM.

    Two models answer: `llmjp` with the model card's defaults and `ensemble` with NVIDIA's.
    An engine of several ranks runs one tritonserver per GPU, through mpirun.
    """
    from llmjp_runtime.server.processes import Ending

    ending = Ending()
    signal.signal(signal.SIGTERM, ending)
    with reason_left(termination_message):
        from llmjp_builder.store.leases import renewed_use
        from llmjp_runtime.artefact import check_artefact
        from llmjp_runtime.server.listen import Listen
        from llmjp_runtime.server.process import TritonServer
        from llmjp_runtime.settings import ServingSettings

        chosen = _chosen(context, artefact, backend)
        check_artefact(artefact, chosen)
        settings = ServingSettings(
            artefact=artefact.resolve(),
            backend=chosen,
            max_batch_size=max_batch_size,
            max_queue=max_queue,
            max_context=max_context,
            device=device,
            compute_dtype=dtype,
            num_threads=num_threads,
            kv_cache_fraction=kv_cache_fraction,
            tensor_parallel=tp,
            pipeline_parallel=pp,
            drain_grace_s=drain_grace,
            health_host=host,
            health_port=health_port,
        )
        listen = Listen(
            host=host,
            http_port=http_port,
            grpc_port=grpc_port,
            metrics_port=metrics_port,
            tls=_tls(tls_cert, tls_key),
        )
        user = f"llmjp serve, process {os.getpid()} on {socket.gethostname()}"[:80]
        with (
            renewed_use(artefact.resolve(), user),
            TritonServer(
                settings, listen, verbose=verbose, exit_timeout_s=exit_timeout, ending=ending
            ) as server,
        ):
            server.wait_ready(start_timeout)
            _announce(listen, health_port)
            server.wait()


def _announce(listen: Listen, health_port: int) -> None:
    console = Console(stderr=True)
    host, endpoint, trust = listen.host, f"{listen.host}:{listen.grpc_port}", ""
    if listen.tls is not None:
        endpoint, trust = f"grpcs://{endpoint}", " --tls-ca CA.pem"
    console.print(
        f"[bold green]ready[/]  gRPC {endpoint}  HTTP {listen.http_host}:{listen.http_port}  "
        f"metrics {host}:{listen.metrics_port}  health {host}:{health_port}",
        soft_wrap=True,
    )
    console.print(f"next   llmjp chat --endpoint {endpoint}{trust}", soft_wrap=True)


def _tls(certificate: Path | None, key: Path | None) -> Tls | None:
    from llmjp_runtime.server.listen import Tls

    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise typer.BadParameter("--tls-cert and --tls-key come together")
    return Tls(certificate=certificate.resolve(), key=key.resolve())


def _chosen(context: typer.Context, artefact: Path, asked: Backends) -> Backend:
    """The backend, once it is known to exist and to read every option that was given."""
    from llmjp_runtime.artefact import backend_of
    from llmjp_runtime.errors import OptionInvalid, UnsupportedModel

    chosen: Backend
    match asked:
        case Backends.AUTO:
            chosen = backend_of(artefact)
        case Backends.VLLM:
            raise UnsupportedModel(
                "backend vllm cannot be served yet: a unified artefact is served by pytorch"
            )
        case Backends.TORCH:
            chosen = "torch"
        case Backends.TENSORRT:
            chosen = "tensorrt"
        case Backends.PYTORCH:
            chosen = "pytorch"
    for name, readers in _READ_BY.items():
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE" and chosen not in readers:
            raise OptionInvalid(
                f"--{name.replace('_', '-')} is for backend {' and '.join(readers)}, but this "
                f"artefact is served by {chosen}"
            )
    return chosen
