"""Clients for the commands that talk to an endpoint."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmjp_cli.options import EndpointOptions, GenerationOptions
    from llmjp_client import TLS, AsyncClient, Client, Message, Options


@contextmanager
def reporting_usage_errors() -> Iterator[None]:
    """Report invalid settings as usage errors of the command line."""
    # grpc logs broken connections to stderr; the client's errors say the same, once.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from llmjp_client import LlmJpError

    try:
        yield
    except LlmJpError:
        raise
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def connect(options: EndpointOptions) -> Client:
    """Return the client that the options describe."""
    with reporting_usage_errors():
        from llmjp_client import Client

        return Client(
            options.endpoint,
            model=options.model,
            timeout=options.timeout,
            tls=_build_tls(options) or False,
        )


def connect_async(options: EndpointOptions) -> AsyncClient:
    """Return the asyncio client of a load test: it sends nothing again, so failures count."""
    with reporting_usage_errors():
        from llmjp_client import AsyncClient

        return AsyncClient(
            options.endpoint,
            model=options.model,
            timeout=options.timeout,
            retries=0,
            tls=_build_tls(options) or False,
        )


def select_given(options: GenerationOptions) -> Options:
    """Return the options that were set, for the client."""
    given = {name: value for name, value in asdict(options).items() if value is not None}
    return cast("Options", given)


def build_turn(role: str, content: str) -> Message:
    """Return one turn of a conversation."""
    return {"role": role, "content": content}


def read_stdin() -> str:
    """Return all of stdin, without its last newline."""
    return sys.stdin.read().removesuffix("\n")


def print_stream(
    client: Client, prompt: str | list[Message], options: Options, said: set[str] | None = None
) -> str:
    """Stream one reply to stdout; return its text, also where Ctrl-C ended it.

    The server's warnings go to stderr, and to `said`; those that are there already do not.

    Raises:
        KeyboardInterrupt: Ctrl-C before any text came.
    """
    said = set() if said is None else said
    with client.stream(prompt, **options) as stream:
        try:
            for chunk in stream:
                _print_warnings(chunk.warnings, said)
                typer.echo(chunk.text, nl=False)
        except KeyboardInterrupt:
            if not stream.text or not sys.stdin.isatty():
                raise
            typer.echo(" [stopped]", nl=False, err=True)
        finally:
            if stream.text:
                typer.echo()
        return stream.text


def _print_warnings(warnings: Iterable[str], said: set[str]) -> None:
    """Print the server's warnings to stderr, each once for one `said`."""
    for warning in warnings:
        if warning not in said:
            said.add(warning)
            typer.echo(f"llmjp: warning: {warning}", err=True)


def _build_tls(options: EndpointOptions) -> TLS | None:
    """Return the options about TLS; None leaves it to the endpoint's scheme."""
    from llmjp_client import TLS

    if options.tls_ca is None and options.tls_name is None:
        return None
    return TLS(ca=options.tls_ca, server_name=options.tls_name)
