"""`llmjp serve`."""

from __future__ import annotations

import json
import os
import signal
import socket
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmjp_runtime.server.listen import Tls
    from llmjp_runtime.settings import Backend

LOCAL = "127.0.0.1"
MOST_SAID = 1200
"""Characters of a reason; Kubernetes keeps 4096 bytes, and a Japanese character takes three."""


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
        int | None, typer.Option(min=1, help="torch: CPU threads; default: all cores.")
    ] = None,
    start_timeout: Annotated[
        float, typer.Option(min=1, help="Seconds until it must be ready; large engines load long.")
    ] = 3600,
    tls_cert: Annotated[
        Path | None,
        typer.Option(help="PEM certificate for gRPC; HTTP then answers this machine only."),
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its PEM key.")] = None,
    termination_message: Annotated[
        Path | None,
        typer.Option(
            envvar="LLMJP_TERMINATION_MESSAGE",
            help="File for a JSON object that says why the server did not start, or failed.",
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Triton's own log.")] = False,
) -> None:
    """Serve an artefact on a real Triton, until Ctrl-C.

    Two models answer: `llmjp` with the model card's defaults and `ensemble` with NVIDIA's.
    An engine of several ranks runs one tritonserver per GPU, through mpirun.
    """
    from llmjp_builder.uses import renewed_use
    from llmjp_runtime.server.listen import Listen
    from llmjp_runtime.server.process import TritonServer
    from llmjp_runtime.serving import check_artefact
    from llmjp_runtime.settings import ServingSettings

    with _reason_left(termination_message):
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
        console = Console(stderr=True)
        user = f"llmjp serve, process {os.getpid()} on {socket.gethostname()}"[:80]
        with (
            renewed_use(artefact.resolve(), user),
            TritonServer(settings, listen, verbose=verbose) as server,
        ):
            signal.signal(signal.SIGTERM, lambda *_: server.terminate())
            server.wait_ready(start_timeout)
            console.print(
                f"[bold green]ready[/]  gRPC {server.grpc_endpoint}  "
                f"HTTP {listen.http_host}:{http_port}  "
                f"metrics {host}:{metrics_port}  health {host}:{health_port}"
            )
            console.print(f"next   llmjp chat --endpoint {server.grpc_endpoint}")
            status = server.wait()
            if status:
                raise typer.Exit(1)


def _tls(certificate: Path | None, key: Path | None) -> Tls | None:
    from llmjp_runtime.server.listen import Tls

    if (certificate is None) != (key is None):
        raise typer.BadParameter("--tls-cert and --tls-key come together")
    return None if certificate is None or key is None else Tls(certificate=certificate, key=key)


@contextmanager
def _reason_left(file: Path | None) -> Iterator[None]:
    """Leave in `file` why the block raises: `{"code": ..., "message": ...}`."""
    try:
        yield
    except Exception as exc:
        if file is not None and not isinstance(exc, typer.Exit):
            said = " ".join(str(exc).split())[:MOST_SAID]
            words = {"code": type(exc).__name__, "message": said}
            with suppress(OSError):
                file.write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")
        raise


def _chosen(context: typer.Context, artefact: Path, asked: Backends) -> Backend:
    """The backend, once it is known to exist and to read every option that was given."""
    from llmjp_runtime.errors import OptionInvalid, UnsupportedModel
    from llmjp_runtime.serving import backend_of

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
