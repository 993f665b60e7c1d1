"""`llmjp chat`, `llmjp generate` and `llmjp bench`: talk to an endpoint."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmjp_client import TLS, Client, Message, Options, Reply

Endpoint = Annotated[
    str,
    typer.Option(envvar="LLMJP_ENDPOINT", help="host:port of the gRPC port; grpcs:// for TLS."),
]
TlsCa = Annotated[
    Path | None,
    typer.Option(
        envvar="LLMJP_TLS_CA",
        exists=True,
        dir_okay=False,
        help="PEM file of the authority to trust; encrypts.",
    ),
]
TlsName = Annotated[
    str | None,
    typer.Option(help="Name in the server's certificate, if not the endpoint's host; encrypts."),
]
Model = Annotated[str, typer.Option(help="Name of the model at the endpoint.")]
Timeout = Annotated[float, typer.Option(help="Seconds a reply may take.", min=0.001)]
MaxTokens = Annotated[int | None, typer.Option(help="New tokens at most.")]
Temperature = Annotated[float | None, typer.Option(help="0 is greedy.")]
TopP = Annotated[float | None, typer.Option(help="Nucleus of the distribution to draw from.")]
TopK = Annotated[int | None, typer.Option(help="1 is greedy.")]
Seed = Annotated[int | None, typer.Option(help="Same seed, same reply.")]
Stop = Annotated[list[str] | None, typer.Option(help="End before this string; repeatable.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]

LOCAL = "localhost:8001"
MODEL = "llmjp"
HELP = "/reset forgets the conversation, /exit leaves; Ctrl-C stops a reply."


@contextmanager
def usage_errors() -> Iterator[None]:
    """Settings that make no sense are the command line's fault."""
    # grpc logs broken connections to stderr; the client's errors say the same, once.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from llmjp_client import LlmJpError

    try:
        yield
    except LlmJpError:
        raise
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def connect(endpoint: str, model: str, timeout: float, tls: TLS | None = None) -> Client:
    """The client that a command's options describe."""
    with usage_errors():
        from llmjp_client import Client

        return Client(endpoint, model=model, timeout=timeout, tls=tls or False)


def trusted(ca: Path | None, name: str | None) -> TLS | None:
    """What the options about encryption say; None leaves it to the endpoint's scheme."""
    with usage_errors():
        from llmjp_client import TLS

        return TLS(ca=ca, server_name=name) if ca or name else None


def chat(
    *,
    message: Annotated[
        str | None, typer.Option("--message", "-m", help="Ask this, print the reply, leave.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="System turn; default: the model's.")] = None,
    endpoint: Endpoint = LOCAL,
    tls_ca: TlsCa = None,
    tls_name: TlsName = None,
    model: Model = MODEL,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    seed: Seed = None,
    stop: Stop = None,
    timeout: Timeout = 600.0,
) -> None:
    """Chat with a model, turn by turn; replies are streamed.

    Without a terminal on stdin, all of stdin is the message.
    """
    options = _given(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        seed=seed,
        stop=stop,
    )
    opening: list[Message] = [{"role": "system", "content": system}] if system else []
    if message is None and not sys.stdin.isatty():
        message = _stdin()
    with connect(endpoint, model, timeout, trusted(tls_ca, tls_name)) as client:
        if message is not None:
            _answer(client, [*opening, _turn("user", message)], options)
        else:
            _converse(client, opening, options)


def generate(
    prompt: Annotated[str, typer.Argument(help="Raw prompt; - reads it from stdin.")],
    *,
    stream: Annotated[bool, typer.Option(help="Print as it is generated.")] = True,
    as_json: AsJson = False,
    endpoint: Endpoint = LOCAL,
    tls_ca: TlsCa = None,
    tls_name: TlsName = None,
    model: Model = MODEL,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    seed: Seed = None,
    stop: Stop = None,
    timeout: Timeout = 600.0,
) -> None:
    """Continue a raw prompt; no chat template is applied."""
    options = _given(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        seed=seed,
        stop=stop,
    )
    text = _stdin() if prompt == "-" else prompt
    with connect(endpoint, model, timeout, trusted(tls_ca, tls_name)) as client:
        if as_json:
            reply = client.generate(text, **options)
            typer.echo(json.dumps(_as_object(reply), ensure_ascii=False))
        elif stream:
            _answer(client, text, options)
        else:
            typer.echo(client.generate(text, **options).text)


def bench(
    *,
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1)] = 4,
    requests: Annotated[int, typer.Option("--requests", "-n", min=1)] = 32,
    prompts: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="One per line; default: built-in ones."),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Prompts as they are, not as chat.")] = False,
    max_tokens: MaxTokens = 128,
    warmup: Annotated[int, typer.Option(min=0, help="Requests before measuring.")] = 1,
    as_json: AsJson = False,
    endpoint: Endpoint = LOCAL,
    tls_ca: TlsCa = None,
    tls_name: TlsName = None,
    model: Model = MODEL,
    timeout: Timeout = 600.0,
) -> None:
    """Measure an endpoint: time to first token, inter-token latency, tokens per second.

    Latencies are those of arrivals at this client; an arrival may hold several tokens.
    """
    import asyncio

    from rich.console import Console

    from llmjp_cli.load_test import BUILT_IN, Load, load_run, table

    texts = BUILT_IN if prompts is None else _lines(prompts)
    load = Load(
        prompts=tuple(texts if raw else ([_turn("user", text)] for text in texts)),
        concurrency=concurrency,
        num_requests=requests,
        num_warmup=warmup,
        max_tokens=max_tokens,
    )
    with usage_errors():
        from llmjp_client import AsyncClient

        tls = trusted(tls_ca, tls_name) or False
        client = AsyncClient(endpoint, model=model, timeout=timeout, tls=tls)
    console = Console(stderr=True)
    summary, errors = asyncio.run(load_run(client, load, console))
    if as_json:
        typer.echo(json.dumps(summary.as_object()))
    else:
        console.print(table(summary))
        console.print(summary.throughput())
    if errors:
        raise errors[0]


def _given(**options: Any) -> Options:
    """The options that were set."""
    return cast("Options", {name: value for name, value in options.items() if value is not None})


def _turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _stdin() -> str:
    return sys.stdin.read().removesuffix("\n")


def _lines(path: Path) -> list[str]:
    try:
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{path}: expected UTF-8: {error}") from error
    if not lines:
        raise typer.BadParameter(f"{path}: expected a prompt per line, found none")
    return lines


def _as_object(reply: Reply) -> dict[str, Any]:
    return {
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "usage": asdict(reply.usage),
        "request_id": reply.request_id,
    }


def _answer(client: Client, prompt: str | list[Message], options: Options) -> str:
    """Stream one reply to stdout; what came of it, also where Ctrl-C ended it.

    Raises:
        KeyboardInterrupt: Ctrl-C before anything came.
    """
    with client.stream(prompt, **options) as stream:
        try:
            for chunk in stream:
                typer.echo(chunk.text, nl=False)
        except KeyboardInterrupt:
            if not stream.text or not sys.stdin.isatty():
                raise
            typer.echo(" [stopped]", nl=False, err=True)
        finally:
            if stream.text:
                typer.echo()
        return stream.text


def _converse(client: Client, opening: list[Message], options: Options) -> None:
    """Turns until /exit or the end of the input."""
    from llmjp_client import LlmJpError

    with suppress(ImportError):
        import readline  # noqa: F401  makes input() edit lines and remember them
    typer.echo(HELP, err=True)
    messages = list(opening)
    while (said := _ask()) is not None:
        if said == "/reset":
            messages = list(opening)
        elif said:
            turns = [*messages, _turn("user", said)]
            try:
                messages = [*turns, _turn("assistant", _answer(client, turns, options))]
            except KeyboardInterrupt:
                typer.echo("[stopped]", err=True)
            except LlmJpError as error:
                # The turn is dropped, so that it can be asked again.
                typer.echo(f"llmjp: {error}", err=True)


def _ask() -> str | None:
    """One line from the terminal; None to leave. Ctrl-C gives the line up."""
    try:
        said = input("> ").strip()
    except EOFError:
        typer.echo(err=True)
        return None
    except KeyboardInterrupt:
        typer.echo(f"\n{HELP}", err=True)
        return ""
    return None if said == "/exit" else said
