"""`llmjp resolve`. Nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmjp_cli.option_groups import expand_groups
from llmjp_cli.options import HubSource, TerminationMessage
from llmjp_cli.termination import reporting_failures, write_message
from llmjp_cli.user_cache import locate_user_cache

SourceName = Annotated[
    str,
    typer.Argument(
        metavar="SRC", help="Folder of a Hugging Face checkpoint, or a repository: OWNER/NAME."
    ),
]
ChecksumStore = Annotated[
    Path | None,
    typer.Option(
        show_default="this user's cache",
        help="Store that keeps the checksums of a folder's files; builds into it reuse them.",
    ),
]


@expand_groups
def resolve_source(
    source: SourceName,
    hub: HubSource,
    store: ChecksumStore = None,
    termination_message: TerminationMessage = None,
) -> None:
    """Pin a source: print commit, files with size and SHA-256, and content digest as JSON.

    No weights of a repository are downloaded. What no backend would serve is refused, by
    config.json and the tokenizer's files, before weights are hashed. The checksums of a folder's
    files are kept for as long as the files do not change.

    Example: llmjp resolve llm-jp/llm-jp-3-1.8b-instruct
    """
    from llmjp_builder.contracts.spec import Step, to_canonical_json
    from llmjp_builder.sources.judging import judge_source
    from llmjp_builder.sources.pinning import parse_source, pin_source
    from llmjp_builder.sources.resolution import make_resolution
    from llmjp_builder.sources.trust import trusting
    from llmjp_builder.store.hashing import HashCache
    from llmjp_builder.store.store import Store
    from llmjp_cli.progress import open_reporter

    with (
        reporting_failures(termination_message, lambda: Step.FETCH),
        trusting(hub.ca_file),
        open_reporter() as report,
    ):
        checksums = locate_user_cache() / "hashes.json"
        wanted = parse_source(source, hub.revision)
        if wanted.path is not None:
            judge_source(Path(wanted.path))
        found = pin_source(
            wanted,
            endpoint=hub.endpoint,
            token=hub.read_token(),
            accepted_licence=hub.accepted_licence,
            hash_cache=HashCache(checksums) if store is None else Store(store).hash_cache,
            on_progress=report,
        )
        write_message(termination_message, make_resolution(found))
    typer.echo(to_canonical_json(found.resolved.to_json()))
