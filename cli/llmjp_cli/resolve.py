"""`llmjp resolve`. Nothing heavy at import."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def resolve(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC", help="Folder of a Hugging Face checkpoint, or a repository: OWNER/NAME."
        ),
    ],
    revision: Annotated[
        str | None,
        typer.Option(
            show_default="the default branch", help="Branch, tag or commit of the repository."
        ),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            envvar="HF_ENDPOINT", show_default="https://huggingface.co", help="Address of the hub."
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            show_default="HF_TOKEN, or what `hf auth login` wrote",
            help="File with an access token, for private and gated repositories.",
        ),
    ] = None,
    accept_licence: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="The model's own terms, by their id, if it has any: you accept them."
        ),
    ] = None,
) -> None:
    """Pin a source: commit, files with size and SHA-256, content digest; as one line of JSON.

    Of a repository no weights are downloaded. The sums of a folder's files are remembered as long
    as the files do not change.

    Example: llmjp resolve llm-jp/llm-jp-3-1.8b-instruct
    """
    from llmjp_builder.hashing import HashCache
    from llmjp_builder.sources.hub import read_token
    from llmjp_builder.sources.resolve import parse_source
    from llmjp_builder.sources.resolve import resolve as pin
    from llmjp_builder.spec import canonical_json
    from llmjp_cli.progress import reporter

    with reporter() as show:
        resolved = pin(
            parse_source(source, revision),
            endpoint=endpoint,
            token=None if token_file is None else read_token(token_file),
            accepted_licence=accept_licence,
            hash_cache=HashCache(_cache_folder() / "hashes.json"),
            on_progress=show,
        )
    typer.echo(canonical_json(resolved.to_json()))


def _cache_folder() -> Path:
    """Of this user (XDG Base Directory Specification)."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if root else Path.home() / ".cache") / "llmjp-serving"
