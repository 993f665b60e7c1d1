"""The model in a checkpoint folder: config.json, and headers where the weights are there too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import MissingFile
from llmjp_builder.convert.checkpoint import CONFIG, read_checkpoint
from llmjp_builder.convert.layout import layout
from llmjp_builder.convert.model_config import parse_model_config
from llmjp_builder.planning.models import Model
from llmjp_builder.store.files import os_errors, read_json_object, regular_file_size

if TYPE_CHECKING:
    from pathlib import Path


def read_model(folder: Path) -> Model:
    """The model in `folder`. No weights are read, and there need not be any.

    Where there are safetensors files, their headers have to agree with config.json.

    Raises:
        BadInput: there is no config.json, or something there is damaged or incomplete.
        Unsupported: another architecture.
    """
    with os_errors(folder):
        is_folder = folder.is_dir()
        has_weights = is_folder and any(folder.glob("*.safetensors"))
    if not is_folder:
        raise MissingFile(
            f"{folder}: no such folder; expected a Hugging Face checkpoint, or its config.json, "
            "there; to plan without one, use --size"
        )
    if not has_weights:
        path = folder / CONFIG
        config = parse_model_config(read_json_object(path), str(path))
        return Model(name=str(folder), config=config)
    return _with_weights(folder)


def _with_weights(folder: Path) -> Model:
    from llmjp_builder.convert.plan import plan

    found = read_checkpoint(folder)
    plan(found.tensors, found.config, layout(found.config), folder)
    size = sum(regular_file_size(folder / name) for name in found.files)
    return Model(name=str(folder), config=found.config, source_bytes=size)
