"""`llmjp generate`. Nothing heavy is imported before it runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmjp_cli.endpoint import connect, print_stream, read_stdin, select_given
from llmjp_cli.option_groups import expand_groups
from llmjp_cli.options import AsJson, Endpoint, Generation

if TYPE_CHECKING:
    from llmjp_client import Reply


@expand_groups
def generate_text(
    prompt: Annotated[str, typer.Argument(help="Raw prompt; - reads it from stdin.")],
    *,
    stream: Annotated[bool, typer.Option(help="Print the text as it is generated.")] = True,
    as_json: AsJson = False,
    endpoint: Endpoint,
    generation: Generation,
) -> None:
    """Continue a raw prompt; no chat template is applied."""
    options = select_given(generation)
    text = read_stdin() if prompt == "-" else prompt
    with connect(endpoint) as client:
        if as_json:
            reply = client.generate(text, **options)
            typer.echo(json.dumps(_to_object(reply), ensure_ascii=False))
        elif stream:
            print_stream(client, text, options)
        else:
            typer.echo(client.generate(text, **options).text)


def _to_object(reply: Reply) -> dict[str, Any]:
    return {
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "usage": asdict(reply.usage),
        "request_id": reply.request_id,
    }
