"""Options about where a checkpoint comes from, which several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Revision = Annotated[
    str | None,
    typer.Option(
        show_default="the default branch", help="Branch, tag or commit of the repository."
    ),
]
Endpoint = Annotated[
    str | None,
    typer.Option(show_default="HF_ENDPOINT, or huggingface.co", help="Address of the hub."),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        show_default="HF_TOKEN, or what `hf auth login` wrote",
        help="File with an access token, for private and gated repositories.",
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        envvar="LLMJP_CA_FILE",
        show_default="the public ones only",
        help="PEM file of authorities to trust besides the public ones, for a hub of your own.",
    ),
]
AcceptLicence = Annotated[
    str | None,
    typer.Option(
        metavar="ID", help="The model's own terms, by their id, if it has any: you accept them."
    ),
]


def token_in(file: Path | None) -> str | None:
    """The token in a file; None where there is no file."""
    from llmjp_builder.sources.hub import read_token

    return None if file is None else read_token(file)
