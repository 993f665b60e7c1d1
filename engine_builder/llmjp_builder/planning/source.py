"""The model in a checkpoint folder, read from config.json and the headers of weights, if any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import MissingFile
from llmjp_builder.contracts.judgement.model import require_served_model
from llmjp_builder.contracts.spec import LayoutOptions
from llmjp_builder.convert.checkpoint import CONFIG, read_checkpoint
from llmjp_builder.convert.layout import resolve_layout
from llmjp_builder.convert.model_config import parse_model_config
from llmjp_builder.planning.models import PlannedModel
from llmjp_builder.store.files import get_regular_file_size, os_errors, read_json_object
from llmjp_builder.tokenizer import find_tokenizer_files, list_tokenizer_files

if TYPE_CHECKING:
    from pathlib import Path

    from llmjp_builder.contracts.spec import Backend


def read_model(folder: Path, backend: Backend | None = None) -> PlannedModel:
    """Read the model in `folder`. No weights are read, and none need be there.

    Where there are safetensors files, their headers must agree with config.json; where there is a
    tokenizer, it must be one that is served.

    Args:
        folder: of the checkpoint.
        backend: who will serve it; None asks for what none of them does.

    Raises:
        BadInput: there is no config.json, or something there is damaged or incomplete.
        UnsupportedRequest: another architecture, or what would be refused at serving.
    """
    with os_errors(folder):
        is_folder = folder.is_dir()
        has_weights = is_folder and any(folder.glob("*.safetensors"))
    if not is_folder:
        raise MissingFile(
            f"{folder}: no such folder; expected a Hugging Face checkpoint or its config.json; "
            "to plan without one, use --size"
        )
    path = folder / CONFIG
    document = read_json_object(path)
    config = parse_model_config(document, str(path))
    require_served_model(document, str(path), backend)
    if list_tokenizer_files(folder):
        find_tokenizer_files(folder, config.vocab_size)
    if not has_weights:
        return PlannedModel(name=str(folder), config=config)
    return _read_with_weights(folder)


def _read_with_weights(folder: Path) -> PlannedModel:
    from llmjp_builder.convert.planner import plan_conversion

    found = read_checkpoint(folder)
    plan_conversion(
        found.tensors, found.config, resolve_layout(found.config, LayoutOptions()), folder
    )
    size = sum(get_regular_file_size(folder / name) for name in found.files)
    return PlannedModel(name=str(folder), config=found.config, source_bytes=size)
