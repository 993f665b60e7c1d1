"""`llmjp resolve`. Nothing heavy at import."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from llmjp_cli.source_options import (
    AcceptLicence,
    CaFile,
    Endpoint,
    Revision,
    TokenFile,
    token_in,
)
from llmjp_cli.termination import TerminationMessage, failures_left, leave


def resolve(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC", help="Folder of a Hugging Face checkpoint, or a repository: OWNER/NAME."
        ),
    ],
    revision: Revision = None,
    endpoint: Endpoint = None,
    token_file: TokenFile = None,
    accept_licence: AcceptLicence = None,
    ca_file: CaFile = None,
    store: Annotated[
        Path | None,
        typer.Option(
            show_default="a folder of this user",
            help="Store that remembers the sums of a folder's files; builds into it use them.",
        ),
    ] = None,
    termination_message: TerminationMessage = None,
) -> None:
    """Pin a source: commit, files with size and SHA-256, content digest; as one line of JSON.

    Of a repository no weights are downloaded. The sums of a folder's files are remembered as long
    as the files do not change.

    Example: llmjp resolve llm-jp/llm-jp-3-1.8b-instruct
    """
    from llmjp_builder.contracts.spec import Step, canonical_json
    from llmjp_builder.sources.resolution import resolution_of
    from llmjp_builder.sources.resolve import parse_source, pinned
    from llmjp_builder.sources.trust import trusting
    from llmjp_builder.store.hashing import HashCache
    from llmjp_builder.store.store import Store
    from llmjp_cli.progress import reporter

    with (
        failures_left(termination_message, lambda: Step.FETCH),
        trusting(ca_file),
        reporter() as show,
    ):
        sums = cache_folder() / "hashes.json"
        found = pinned(
            parse_source(source, revision),
            endpoint=endpoint,
            token=token_in(token_file),
            accepted_licence=accept_licence,
            hash_cache=HashCache(sums) if store is None else Store(store).hash_cache,
            on_progress=show,
        )
        if termination_message is not None:
            leave(termination_message, resolution_of(found))
    typer.echo(canonical_json(found.resolved.to_json()))


def cache_folder() -> Path:
    """Of this user (XDG Base Directory Specification)."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if root else Path.home() / ".cache") / "llmjp-serving"
