"""`llmjp` and `python -m llmjp_cli`."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Annotated

import typer

from llmjp_cli.commands.bench import benchmark_endpoint
from llmjp_cli.commands.build import build_artefact
from llmjp_cli.commands.chat import chat_with_model
from llmjp_cli.commands.convert import convert_checkpoint
from llmjp_cli.commands.demo import run_demo
from llmjp_cli.commands.doctor import diagnose_cluster
from llmjp_cli.commands.drain import drain_server
from llmjp_cli.commands.generate import generate_text
from llmjp_cli.commands.plan import plan_deployment
from llmjp_cli.commands.quantize import quantize_checkpoint
from llmjp_cli.commands.resolve import resolve_source
from llmjp_cli.commands.rollback import roll_back
from llmjp_cli.commands.serve import serve_artefact
from llmjp_cli.commands.status import show_status
from llmjp_cli.commands.store import (
    check_store,
    collect_garbage,
    list_store,
    remove_from_store,
)
from llmjp_cli.commands.verify import verify_checkpoint
from llmjp_cli.exit_codes import run_command_line

ENGINES = "Build"
SERVING = "Serve"
CLIENTS = "Talk to an endpoint"
CLUSTER = "Look after a cluster"

app = typer.Typer(
    name="llmjp",
    help=(
        "Serve llm-jp-3 models: from a Hugging Face checkpoint to a TensorRT-LLM engine, a Triton "
        "server and streamed Japanese.\n\n"
        "See it work:  llmjp demo\n\n"
        "What fits where:  llmjp plan --size 172b\n\n"
        "Step by step:  llmjp build CHECKPOINT --store STORE --tp 2,  then  llmjp serve ARTEFACT,  "
        "then  llmjp chat\n\n"
        "Progress and errors go to stderr, results to stdout. Exit codes: 0 ok, 2 usage, 3 bad "
        "input, 4 not enough memory or disk, 5 not permitted, 6 unsupported, 1 anything else."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"llmjp-serving {importlib.metadata.version('llmjp-serving')}")
        raise typer.Exit


@app.callback()
def declare_options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Declare the options before the command."""


app.command("plan", rich_help_panel=ENGINES)(plan_deployment)
app.command("build", rich_help_panel=ENGINES)(build_artefact)
app.command("convert", rich_help_panel=ENGINES)(convert_checkpoint)
app.command("quantize", rich_help_panel=ENGINES)(quantize_checkpoint)
app.command("verify", rich_help_panel=ENGINES)(verify_checkpoint)
app.command("resolve", rich_help_panel=ENGINES)(resolve_source)

store = typer.Typer(help="List, clean up and check a store.", no_args_is_help=True)
store.command("ls")(list_store)
store.command("gc")(collect_garbage)
store.command("remove")(remove_from_store)
store.command("check")(check_store)
app.add_typer(store, name="store", rich_help_panel=ENGINES)

app.command("serve", rich_help_panel=SERVING)(serve_artefact)
app.command("drain", rich_help_panel=SERVING)(drain_server)
app.command("demo", rich_help_panel=SERVING)(run_demo)
app.command("chat", rich_help_panel=CLIENTS)(chat_with_model)
app.command("generate", rich_help_panel=CLIENTS)(generate_text)
app.command("bench", rich_help_panel=CLIENTS)(benchmark_endpoint)
app.command("status", rich_help_panel=CLUSTER)(show_status)
app.command("rollback", rich_help_panel=CLUSTER)(roll_back)
app.command("doctor", rich_help_panel=CLUSTER)(diagnose_cluster)


def main() -> None:
    """Run the console script."""
    sys.exit(run_command_line(app))


if __name__ == "__main__":
    main()
