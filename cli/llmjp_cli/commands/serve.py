"""`llmjp serve`. Nothing heavy is imported before it runs."""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from llmjp_builder.contracts.defaults import BATCH_SIZE
from llmjp_cli.option_groups import OptionGroup, expand_groups, find_given_flags
from llmjp_cli.options import TerminationMessage
from llmjp_cli.termination import reporting_errors
from llmjp_runtime.server.endpoints import Endpoints, TlsFiles
from llmjp_runtime.settings import ServingSettings

if TYPE_CHECKING:
    from llmjp_runtime.settings import Backend


class BackendChoice(StrEnum):
    """Values of `--backend`."""

    AUTO = "auto"
    TENSORRT = "tensorrt"
    PYTORCH = "pytorch"
    VLLM = "vllm"
    TORCH = "torch"


SERVING = OptionGroup(
    {
        "artefact": typer.Argument(
            help="The folder that `llmjp build` printed; for backend vllm also a Hugging Face one."
        ),
        "health_port": typer.Option(help="Port of /readyz and /livez."),
        "max_batch_size": typer.Option(
            min=1,
            show_default=f"the engine's, else {BATCH_SIZE}",
            help="Maximum requests per batch.",
        ),
        "max_queue": typer.Option(
            min=0, help="Maximum waiting requests; further ones are refused."
        ),
        "max_context": typer.Option(
            min=2, show_default="the model's", help="Maximum tokens of prompt and reply together."
        ),
        "max_tokens": typer.Option(
            min=1,
            show_default="the rest of the context",
            help="Maximum new tokens of a reply.",
        ),
        "max_reply_s": typer.Option(
            "--max-reply-seconds", min=1, help="Maximum time of a reply, waiting included."
        ),
        "request_log": typer.Option(
            help="Requests logged, a line of JSON each: all, refused or failed ones, errors, none."
        ),
        "request_log_sample": typer.Option(
            min=0, max=1, help="Share of the requests that are logged; errors always are."
        ),
        "kv_cache_fraction": typer.Option(
            min=0.01,
            max=0.99,
            help="tensorrt, pytorch: share of the GPU memory that the weights leave free; vllm: of "
            "all, weights included.",
        ),
        "prefix_caching": typer.Option(
            "--prefix-caching/--no-prefix-caching",
            help="vllm: prompts that begin alike share their part of the cache.",
        ),
        "tensor_parallel": typer.Option(
            "--tp", min=1, help="pytorch, vllm: GPUs that share each layer."
        ),
        "pipeline_parallel": typer.Option(
            "--pp", min=1, help="pytorch, vllm: stages that divide the layers."
        ),
        "device": typer.Option(help="torch: cpu, cuda, cuda:1, ...; auto takes a GPU."),
        "compute_dtype": typer.Option(
            "--dtype", help="torch, vllm: float32, bfloat16, float16; auto: torch float32 on CPU."
        ),
        "num_threads": typer.Option(
            min=1, show_default="all available", help="torch: CPU threads."
        ),
        "drain_grace_s": typer.Option(
            "--drain-grace",
            min=0,
            help="Seconds for which it still accepts requests after `llmjp drain`.",
        ),
    }
)
ENDPOINTS = OptionGroup(
    {
        "host": typer.Option(help="Address to listen on; 0.0.0.0 for all."),
        "http_port": typer.Option(help="Port of KServe v2 HTTP and /generate_stream."),
        "grpc_port": typer.Option(help="Port of KServe v2 gRPC."),
        "metrics_port": typer.Option(help="Port of the Prometheus metrics."),
    }
)
_READ_BY = {
    "device": ("torch",),
    "compute_dtype": ("torch", "vllm"),
    "num_threads": ("torch",),
    "kv_cache_fraction": ("tensorrt", "pytorch", "vllm"),
    "prefix_caching": ("vllm",),
    "tensor_parallel": ("pytorch", "vllm"),
    "pipeline_parallel": ("pytorch", "vllm"),
}
"""Options that only some backends read."""


ServedBy = Annotated[BackendChoice, typer.Option(help="auto: what the artefact was built for.")]
StartTimeout = Annotated[
    float, typer.Option(min=1, help="Seconds to get ready; large engines load slowly.")
]
ExitTimeout = Annotated[
    float, typer.Option(min=0, help="Seconds from SIGTERM until running requests are cut off.")
]
TlsCertificate = Annotated[
    Path | None,
    typer.Option(help="PEM certificates for gRPC; HTTP then answers this machine only."),
]
TlsKey = Annotated[Path | None, typer.Option(help="PEM key of --tls-cert.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show Triton's own log.")]


@expand_groups
def serve_artefact(
    context: typer.Context,
    settings: Annotated[ServingSettings, SERVING],
    endpoints: Annotated[Endpoints, ENDPOINTS],
    backend: ServedBy = BackendChoice.AUTO,
    start_timeout: StartTimeout = 3600,
    exit_timeout: ExitTimeout = 30,
    tls_cert: TlsCertificate = None,
    tls_key: TlsKey = None,
    termination_message: TerminationMessage = None,
    verbose: Verbose = False,
) -> None:
    """Serve an artefact on a real Triton, until Ctrl-C or SIGTERM.

    Two models answer: `llmjp` with the model card's defaults and `ensemble` with NVIDIA's. An
    engine of several ranks runs one tritonserver per GPU, through mpirun.
    """
    from llmjp_runtime.server.processes import ShutdownRequest

    shutdown = ShutdownRequest()
    signal.signal(signal.SIGTERM, shutdown)
    with reporting_errors(termination_message):
        from llmjp_builder.store.leases import renewed_lease
        from llmjp_runtime.server.process import TritonServer

        settings = _complete_settings(context, settings, backend, endpoints.host)
        endpoints = replace(endpoints, tls=_build_tls(tls_cert, tls_key))
        with (
            renewed_lease(settings.artefact, _name_user()),
            TritonServer(
                settings, endpoints, verbose=verbose, exit_timeout_s=exit_timeout, shutdown=shutdown
            ) as server,
        ):
            server.wait_ready(start_timeout)
            _announce(endpoints, settings.health_port)
            server.wait()


def _complete_settings(
    context: typer.Context, settings: ServingSettings, asked: BackendChoice, host: str
) -> ServingSettings:
    """Return the settings with the backend, once the artefact is known to suit it."""
    from llmjp_builder.contracts.spec import Backend as AnyBackend
    from llmjp_builder.sources.judging import judge_source
    from llmjp_runtime.artefact import check_artefact, require_library

    backend = _choose_backend(context, settings.artefact, asked)
    if check_artefact(settings.artefact, backend) is None:
        judge_source(settings.artefact, AnyBackend(backend))
    require_library(backend)
    return replace(
        settings, artefact=settings.artefact.resolve(), backend=backend, health_host=host
    )


def _choose_backend(context: typer.Context, artefact: Path, asked: BackendChoice) -> Backend:
    """Return the backend; refuse one that does not exist, and options that it does not read."""
    from llmjp_runtime.artefact import detect_backend
    from llmjp_runtime.errors import OptionInvalid

    backend: Backend
    match asked:
        case BackendChoice.AUTO:
            backend = detect_backend(artefact)
        case BackendChoice.VLLM:
            backend = "vllm"
        case BackendChoice.TORCH:
            backend = "torch"
        case BackendChoice.TENSORRT:
            backend = "tensorrt"
        case BackendChoice.PYTORCH:
            backend = "pytorch"
    for name, readers in _READ_BY.items():
        if backend not in readers and (flags := find_given_flags(context, [name])):
            raise OptionInvalid(
                f"{flags[0]} is for backend {' and '.join(readers)}, but this artefact is served "
                f"by {backend}"
            )
    return backend


def _build_tls(certificate: Path | None, key: Path | None) -> TlsFiles | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise typer.BadParameter("--tls-cert and --tls-key need each other")
    return TlsFiles(certificate=certificate.resolve(), key=key.resolve())


def _name_user() -> str:
    """Return who uses the artefact, for its store's leases."""
    return f"llmjp serve, process {os.getpid()} on {socket.gethostname()}"[:80]


def _announce(endpoints: Endpoints, health_port: int) -> None:
    console = Console(stderr=True)
    host, endpoint, trust = endpoints.host, f"{endpoints.host}:{endpoints.grpc_port}", ""
    if endpoints.tls is not None:
        endpoint, trust = f"grpcs://{endpoint}", " --tls-ca CA.pem"
    console.print(
        f"[bold green]ready[/]  gRPC {endpoint}  HTTP {endpoints.http_host}:{endpoints.http_port}  "
        f"metrics {host}:{endpoints.metrics_port}  health {host}:{health_port}",
        soft_wrap=True,
    )
    console.print(f"next   llmjp chat --endpoint {endpoint}{trust}", soft_wrap=True)
