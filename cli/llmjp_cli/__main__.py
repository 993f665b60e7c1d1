"""`llmjp` and `python -m llmjp_cli`."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Annotated

import typer

from llmjp_cli.commands.build import build, convert
from llmjp_cli.commands.chat import bench, chat, generate
from llmjp_cli.commands.demo import demo
from llmjp_cli.commands.doctor import diagnose_cluster
from llmjp_cli.commands.drain import drain
from llmjp_cli.commands.plan import plan
from llmjp_cli.commands.quantize import quantize
from llmjp_cli.commands.resolve import resolve
from llmjp_cli.commands.serve import serve
from llmjp_cli.commands.status import show_status
from llmjp_cli.commands.store import store_check, store_gc, store_ls, store_remove
from llmjp_cli.commands.verify import verify
from llmjp_cli.exit_codes import run

ENGINES = "Build"
SERVING = "Serve"
CLIENTS = "Talk to an endpoint"
CLUSTER = "Look into a cluster"

app = typer.Typer(
    name="llmjp",
    help=(
        "Serve llm-jp-3 models: from a Hugging Face checkpoint to a TensorRT-LLM checkpoint, to a "
        "Triton server, to streamed Japanese.\n\n"
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


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"llmjp-serving {importlib.metadata.version('llmjp-serving')}")
        raise typer.Exit


@app.callback()
def main_options(
    _version_wanted: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""


app.command(rich_help_panel=ENGINES)(plan)
app.command(rich_help_panel=ENGINES)(build)
app.command(rich_help_panel=ENGINES)(convert)
app.command(rich_help_panel=ENGINES)(quantize)
app.command(rich_help_panel=ENGINES)(verify)
app.command(rich_help_panel=ENGINES)(resolve)

store = typer.Typer(help="Look into a store, tidy it up, check it.", no_args_is_help=True)
store.command("ls")(store_ls)
store.command("gc")(store_gc)
store.command("remove")(store_remove)
store.command("check")(store_check)
app.add_typer(store, name="store", rich_help_panel=ENGINES)

app.command(rich_help_panel=SERVING)(serve)
app.command(rich_help_panel=SERVING)(drain)
app.command(rich_help_panel=SERVING)(demo)
app.command(rich_help_panel=CLIENTS)(chat)
app.command(rich_help_panel=CLIENTS)(generate)
app.command(rich_help_panel=CLIENTS)(bench)
app.command("status", rich_help_panel=CLUSTER)(show_status)
app.command("doctor", rich_help_panel=CLUSTER)(diagnose_cluster)


def main() -> None:
    """The console script."""
    sys.exit(run(app))


if __name__ == "__main__":
    main()
