"""Tokenizer files of a Hugging Face checkpoint, judged as the server will judge them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import BadConfig, MissingFile
from llmjp_builder.contracts.judgement.tokenizer import require_served_tokenizer
from llmjp_builder.contracts.judgement.tokenizer_files import (
    CONFIG,
    PIPELINE,
    parse_tokenizer_files,
)
from llmjp_builder.store.files import os_errors, parse_json_object

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmjp_builder.contracts.judgement.tokenizer_files import TokenizerFiles

REQUIRED = (PIPELINE, CONFIG)
OPTIONAL = (
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
)
_GENERATION_TAG = re.compile(r"(\{%[-+]?\s*(?:end)?)generation(\s*[-+]?%\})")


def find_tokenizer_files(folder: Path, vocab_size: int) -> tuple[str, ...]:
    """Return the names of the files for an artefact's `tokenizer/`.

    Args:
        folder: of the checkpoint.
        vocab_size: of the model; every token's id must be below it.

    Raises:
        MissingFile: a required file is not there.
        BadConfig, UnsupportedRequest: see `judge_tokenizer`.
    """
    names = list_tokenizer_files(folder)
    files: dict[str, bytes] = {}
    for name in names:
        with os_errors(folder / name):
            files[name] = (folder / name).read_bytes()
    judge_tokenizer(files, str(folder), vocab_size)
    return names


def list_tokenizer_files(folder: Path) -> tuple[str, ...]:
    """Return the names of the tokenizer's files that there are, unread."""
    with os_errors(folder):
        return tuple(name for name in (*REQUIRED, *OPTIONAL) if (folder / name).exists())


def judge_tokenizer(files: Mapping[str, bytes], where: str, vocab_size: int | None) -> None:
    """Raise where a server would refuse the tokenizer.

    Where the tokenizers library and Jinja are installed, as in every image that builds, they are
    asked as well.

    Args:
        files: contents by name: `REQUIRED` and those of `OPTIONAL` that there are.
        where: their folder or repository, for messages.
        vocab_size: of the model; None where it is not known.

    Raises:
        MissingFile: a required file is not there.
        BadConfig: a file is malformed, or contradicts another one or the model.
        UnsupportedRequest: a kind of tokenizer or template that is not served.
    """
    for name in files:
        if name.endswith(".json"):
            parse_json_object(files[name], f"{where}/{name}")
    if PIPELINE in files and CONFIG not in files:
        raise MissingFile(f"{where}: no {CONFIG}: it belongs to {PIPELINE}, if only as {{}}")
    parsed = parse_tokenizer_files(files, where)
    require_served_tokenizer(parsed, where, vocab_size)
    _ask_tokenizers(parsed, where)
    if parsed.chat_template is not None:
        _ask_jinja(parsed.chat_template, where)


def _ask_tokenizers(files: TokenizerFiles, where: str) -> None:
    """Raise where the library cannot load the pipeline: a broken pattern, a model of no kind."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return
    try:
        Tokenizer.from_str(json.dumps(files.pipeline))
    except Exception as exc:  # the library raises nothing more precise
        raise BadConfig(f"{where}/{PIPELINE}: not a tokenizer: {exc}") from exc


def _ask_jinja(template: str, where: str) -> None:
    """Raise where Jinja cannot compile the template: a broken expression, an unknown filter."""
    try:
        from jinja2 import Environment
    except ImportError:
        return
    # `generation` is an extension of transformers; to the compiler it is a block as any other.
    known = _GENERATION_TAG.sub(r"\1with\2", template)
    try:
        Environment(extensions=["jinja2.ext.loopcontrols"]).compile(known)  # noqa: S701  compiled only
    except Exception as exc:  # also Python's, of the code that a template becomes
        raise BadConfig(f"{where}: chat template: not valid Jinja ({exc})") from exc
