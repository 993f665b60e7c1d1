"""`llmjp chat`. Nothing heavy is imported before it runs."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from llmjp_cli.endpoint import build_turn, connect, print_stream, read_stdin, select_given
from llmjp_cli.option_groups import expand_groups
from llmjp_cli.options import Endpoint, Generation

if TYPE_CHECKING:
    from llmjp_client import Client, Message, Options

HELP = "/reset forgets the conversation, /exit leaves; Ctrl-C stops a reply."


@expand_groups
def chat_with_model(
    *,
    message: Annotated[
        str | None, typer.Option("--message", "-m", help="Ask this, print the reply, and exit.")
    ] = None,
    system: Annotated[
        str | None, typer.Option(show_default="the model's", help="System prompt.")
    ] = None,
    endpoint: Endpoint,
    generation: Generation,
) -> None:
    """Chat with a model, turn by turn; replies are streamed.

    Without a terminal on stdin, all of stdin is the message.
    """
    options = select_given(generation)
    opening = [build_turn("system", system)] if system else []
    if message is None and not sys.stdin.isatty():
        message = read_stdin()
    with connect(endpoint) as client:
        if message is not None:
            print_stream(client, [*opening, build_turn("user", message)], options)
        else:
            converse(client, opening, options)


def converse(client: Client, opening: list[Message], options: Options) -> None:
    """Take turns until /exit or the end of the input."""
    from llmjp_client import LlmJpError

    with suppress(ImportError):
        import readline  # noqa: F401  makes input() edit lines and remember them
    typer.echo(HELP, err=True)
    messages = list(opening)
    said: set[str] = set()
    while (text := _read_line()) is not None:
        if text == "/reset":
            messages = list(opening)
        elif text:
            turns = [*messages, build_turn("user", text)]
            try:
                reply = print_stream(client, turns, options, said)
                messages = [*turns, build_turn("assistant", reply)]
            except KeyboardInterrupt:
                typer.echo("[stopped]", err=True)
            except LlmJpError as error:
                # The turn is dropped, so that it can be asked again.
                typer.echo(f"llmjp: {error}", err=True)


def _read_line() -> str | None:
    """Return one line from the terminal; None to leave. Ctrl-C discards the line."""
    try:
        text = input("> ").strip()
    except EOFError:
        typer.echo(err=True)
        return None
    except KeyboardInterrupt:
        typer.echo(f"\n{HELP}", err=True)
        return ""
    return None if text == "/exit" else text
