"""Tokenizer files of a Hugging Face checkpoint, checked only as far as a build needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmjp_builder.contracts.errors import BadConfig, MissingFile
from llmjp_builder.store.files import os_errors, read_json_object

if TYPE_CHECKING:
    from pathlib import Path

REQUIRED = ("tokenizer.json", "tokenizer_config.json")
OPTIONAL = (
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
)


def find_tokenizer_files(folder: Path, vocab_size: int) -> tuple[str, ...]:
    """Return the names of the files for an artefact's `tokenizer/`.

    Args:
        folder: of the checkpoint.
        vocab_size: of the model; every token's id must be below it.

    Raises:
        MissingFile: a required file is not there.
        BadConfig: a file is not JSON, or the tokenizer has ids that the model lacks.
    """
    with os_errors(folder):
        present = {name for name in (*REQUIRED, *OPTIONAL) if (folder / name).exists()}
    if absent := [name for name in REQUIRED if name not in present]:
        raise MissingFile(
            f"{folder}: no {absent[0]}: an artefact needs the tokenizer "
            f"({' and '.join(REQUIRED)}) beside the weights"
        )
    names = tuple(name for name in (*REQUIRED, *OPTIONAL) if name in present)
    documents = {name: read_json_object(folder / name) for name in names if name.endswith(".json")}
    largest = _find_largest_id(documents["tokenizer.json"])
    if largest is None:
        raise BadConfig(f"{folder / 'tokenizer.json'}: it has no vocabulary")
    if largest >= vocab_size:
        raise BadConfig(
            f"{folder / 'tokenizer.json'}: token id {largest} is beyond the model's vocabulary "
            f"of {vocab_size}; tokenizer and weights do not belong together"
        )
    return names


def _find_largest_id(document: dict[str, Any]) -> int | None:
    """Return the largest id of the vocabulary (a list by id, or an object) and the added tokens."""
    ids: list[int] = []
    match document.get("model"):
        case {"vocab": list(pieces)}:
            ids.append(len(pieces) - 1)
        case {"vocab": dict(tokens)}:
            ids.extend(i for i in tokens.values() if isinstance(i, int))
        case _:
            return None
    added = document.get("added_tokens")
    listed = added if isinstance(added, list) else []
    given = (token.get("id") for token in listed if isinstance(token, dict))
    ids.extend(i for i in given if isinstance(i, int))
    return max(ids, default=None)
