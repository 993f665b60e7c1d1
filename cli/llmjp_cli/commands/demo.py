"""`llmjp demo`: every step with the example model on this machine, in about a minute."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from llmjp_client import Client
    from llmjp_runtime.server.process import TritonServer

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "tiny-model" / "checkpoint"
"""The example model of a checkout."""
STORE = Path(".llmjp") / "store"
"""Where the demo keeps its artefacts: below the working directory, where it is easy to remove."""
TENSOR_PARALLEL = 2
"""Two ranks, so that sharding and reduction are exercised, even on one CPU."""
START_TIMEOUT_S = 120.0
THREADS = 1
"""Threads of the executor: more of them slow so small a model down."""
MAX_TOKENS = 160
"""More than any answer of the example model needs; another checkpoint may never stop."""

CONVERSATIONS: tuple[tuple[str, ...], ...] = (
    ("自然言語処理とは何ですか。",),
    ("日本の首都はどこですか。", "では、フランスの首都はどこですか。"),
    ("「龍」を三つ書く漢字と、龍の絵文字を並べてください。",),
)
"""A definition, two turns of which the second needs the first, and characters spelled in bytes."""


class ExampleModelMissing(Exception):
    """This installation does not include the example model."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class ReplyTiming:
    """The timing of one streamed reply."""

    first_token_s: float
    total_s: float
    num_tokens: int

    @property
    def tokens_per_s(self) -> float:
        """Generated tokens per second, from request to last token."""
        return self.num_tokens / self.total_s


def run_demo(
    checkpoint: Annotated[
        Path, typer.Option(help="Folder of the Hugging Face checkpoint to show.")
    ] = EXAMPLE,
    store: Annotated[Path, typer.Option(help="Store for the artefact.")] = STORE,
    keep: Annotated[bool, typer.Option("--keep", help="Keep serving until Ctrl-C.")] = False,
) -> None:
    """Build the example model, serve it with a real Triton, stream answers in Japanese."""
    if not (checkpoint / "config.json").is_file():
        raise ExampleModelMissing(
            f"{checkpoint} is not a checkpoint: run the demo from a checkout, or name one with "
            "--checkpoint"
        )
    interrupts = _Interrupts()
    console = Console(stderr=True)
    artefact, build_s, cache_hit = _build_artefact(checkpoint, store, console)
    interrupts.check()
    with _start_server(artefact, store.parent / "triton.log", console) as server:
        interrupts.server = server
        interrupts.check()
        timings = _converse(server.grpc_endpoint, console)
        interrupts.check()
        for label, value in _summarize(timings, artefact, build_s, cache_hit=cache_hit).items():
            # Not wrapped: these lines are to be copied.
            console.print(f"[bold]{label:<20}[/] {value}", soft_wrap=True, highlight=False)
        if keep:
            console.print(f"serving on {server.grpc_endpoint} until Ctrl-C")
            server.wait()


class _Interrupts:
    """Leaves through the `with` blocks, whichever signal comes.

    An exception that a signal handler raises is lost if Python was just called from C (gRPC's
    threads do that). So the signal is also recorded, and the server told to stop.
    """

    def __init__(self) -> None:
        self.server: TritonServer | None = None
        self._received: int | None = None
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, self._receive)

    def _receive(self, number: int, _frame: object) -> None:
        self._received = number
        if self.server:
            self.server.terminate()
        self.check()

    def check(self) -> None:
        """Leave if a signal came."""
        if self._received is not None:
            raise SystemExit(128 + self._received)


def _build_artefact(checkpoint: Path, store: Path, console: Console) -> tuple[Path, float, bool]:
    from llmjp_builder.contracts.spec import BuildSpec, Source
    from llmjp_builder.pipeline import build
    from llmjp_cli.progress import open_reporter

    console.print(f"[bold]1/3[/] engine artefact, tensor parallel {TENSOR_PARALLEL}")
    spec = BuildSpec(source=Source(path=str(checkpoint)), tensor_parallel=TENSOR_PARALLEL)
    start = time.monotonic()
    with open_reporter() as on_progress:
        result = build(spec, store=store, on_progress=on_progress)
    return result.path, time.monotonic() - start, result.cache_hit


def _start_server(artefact: Path, log: Path, console: Console) -> TritonServer:
    from llmjp_runtime.server.endpoints import Endpoints
    from llmjp_runtime.server.preflight import find_free_ports
    from llmjp_runtime.server.process import TritonServer
    from llmjp_runtime.settings import ServingSettings

    console.print("[bold]2/3[/] tritonserver")
    http, grpc, metrics, health = find_free_ports(4)
    server = TritonServer(
        ServingSettings(artefact=artefact.resolve(), health_port=health, num_threads=THREADS),
        Endpoints(http_port=http, grpc_port=grpc, metrics_port=metrics),
        log=log,
    )
    try:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            progress.add_task("loading the engine and generating a first token", total=None)
            server.wait_ready(START_TIMEOUT_S)
    except BaseException:
        server.close()
        raise
    return server


def _converse(endpoint: str, console: Console) -> list[ReplyTiming]:
    from llmjp_client import Client

    console.print("[bold]3/3[/] streamed answers over gRPC\n")
    timings = []
    with Client(endpoint) as client:
        for questions in CONVERSATIONS:
            messages: list[dict[str, str]] = []
            for question in questions:
                messages.append({"role": "user", "content": question})
                console.print(f"[cyan]問[/] {question}")
                text, timing = _print_stream(client, messages, console)
                messages.append({"role": "assistant", "content": text})
                timings.append(timing)
            console.print()
    return timings


def _print_stream(
    client: Client, messages: list[dict[str, str]], console: Console
) -> tuple[str, ReplyTiming]:
    start = time.monotonic()
    first = None
    console.print("[green]答[/] ", end="")
    with client.stream(messages, top_k=1, repetition_penalty=1.0, max_tokens=MAX_TOKENS) as stream:
        for chunk in stream:
            first = first or time.monotonic()
            console.print(chunk.text, end="", markup=False, highlight=False, soft_wrap=True)
        reply = stream.reply()
    console.print()
    end = time.monotonic()
    return reply.text, ReplyTiming((first or end) - start, end - start, reply.usage.output_tokens)


def _find_command() -> str:
    """Return how to call `llmjp` from the working directory."""
    if shutil.which("llmjp"):
        return "llmjp"
    return os.path.relpath(Path(sys.executable).parent / "llmjp")


def _summarize(
    timings: list[ReplyTiming], artefact: Path, build_s: float, *, cache_hit: bool
) -> dict[str, str]:
    first_ms = 1e3 * statistics.median(each.first_token_s for each in timings)
    speed = statistics.median(each.tokens_per_s for each in timings)
    found = "found by its key and verified" if cache_hit else "built"
    command = _find_command()
    return {
        "artefact": f"{artefact}  ({found} in {build_s:.1f} s)",
        "time to first token": f"{first_ms:.0f} ms (median of {len(timings)} replies)",
        "speed": f"{speed:.0f} tokens/s, one request at a time, on this CPU",
        "next": f"{command} serve {artefact}",
        "then": f"{command} chat      (in another terminal)",
    }
