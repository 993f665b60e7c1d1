"""Judgement of a source before its weights are downloaded, hashed or read.

What the server would refuse is refused here: by config.json and the tokenizer's files alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import MissingFile
from llmjp_builder.contracts.judgement.model import require_served_model
from llmjp_builder.convert.model_config import parse_model_config
from llmjp_builder.sources.selection import CONFIG
from llmjp_builder.store.files import os_errors, read_json_object
from llmjp_builder.tokenizer import find_tokenizer_files

if TYPE_CHECKING:
    from pathlib import Path

    from llmjp_builder.contracts.spec import Backend
    from llmjp_builder.convert.model_config import ModelConfig


def judge_source(folder: Path, backend: Backend | None = None) -> ModelConfig:
    """Return the parsed config.json of a checkpoint that can be served.

    Args:
        folder: has config.json and the tokenizer's files; weights need not be there.
        backend: who will serve it; None asks for what none of them does.

    Raises:
        MissingFile: no folder, no config.json or no tokenizer.
        BadConfig: a file is malformed, or contradicts another one.
        UnsupportedRequest: another architecture, or a kind of model, tokenizer or template that
            is not served; the message names the key.
    """
    with os_errors(folder):
        is_folder = folder.is_dir()
    if not is_folder:
        raise MissingFile(f"{folder}: no such folder; expected a Hugging Face checkpoint there")
    path = folder / CONFIG
    document = read_json_object(path)
    config = parse_model_config(document, str(path))
    require_served_model(document, str(path), backend)
    find_tokenizer_files(folder, config.vocab_size)
    return config
