"""Hugging Face checkpoint folders: files, and the tensors in their headers. Reads no weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import BadConfig, BadTensors, MissingFile, UnsupportedRequest
from llmjp_builder.contracts.judgement.model import require_served_model
from llmjp_builder.convert.header import TensorInfo, read_header
from llmjp_builder.convert.model_config import ModelConfig, parse_model_config
from llmjp_builder.store.files import os_errors, read_json_object

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_MAX_NAME_BYTES = 255
"""Limit for a file name on every file system in use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCheckpoint:
    """A checkpoint as known before a byte of its weights is read."""

    folder: Path
    config: ModelConfig
    tensors: Mapping[str, TensorInfo]
    files: tuple[str, ...]
    """Names of config.json, the index if there is one, and the weight files."""


def read_checkpoint(folder: Path) -> SourceCheckpoint:
    """Read the checkpoint in `folder`; config.json and every header are checked.

    Raises:
        MissingFile: no folder, no config.json, no weights, or a shard of the index is absent.
        BadConfig: config.json or the index is malformed.
        BadHeader: the header of a weight file is malformed or contradicts the file.
        BadTensors: shards and index disagree.
        UnsupportedRequest: another architecture, code of its own, or weights in another format
            than safetensors.
    """
    with os_errors(folder):
        is_folder = folder.is_dir()
    if not is_folder:
        raise MissingFile(f"{folder}: no such folder; expected a Hugging Face checkpoint there")
    config_path = folder / CONFIG
    document = read_json_object(config_path)
    config = parse_model_config(document, str(config_path))
    require_served_model(document, str(config_path))
    with os_errors(folder):
        single, index = (folder / SINGLE).exists(), (folder / INDEX).exists()
        pickled = next(folder.glob("pytorch_model*.bin*"), None)
    if single and index:
        raise BadTensors(f"{folder}: has both {SINGLE} and {INDEX}; remove the one that is stale")
    if single:
        tensors = read_header(folder / SINGLE)
        return SourceCheckpoint(
            folder=folder, config=config, tensors=tensors, files=(CONFIG, SINGLE)
        )
    if index:
        tensors, shards = _read_shards(folder)
        return SourceCheckpoint(
            folder=folder, config=config, tensors=tensors, files=(CONFIG, INDEX, *shards)
        )
    if pickled is not None:
        raise UnsupportedRequest(
            f"{pickled}: only safetensors are read; save the model as safetensors"
        )
    raise MissingFile(f"{folder}: neither {SINGLE} nor {INDEX}: no weights to convert")


def _read_shards(folder: Path) -> tuple[dict[str, TensorInfo], tuple[str, ...]]:
    """Read all shards' headers; return the tensors and the shards' names.

    The index and the shards must agree exactly.
    """
    index = folder / INDEX
    placed = _read_weight_map(index)
    shards = tuple(sorted(set(placed.values())))
    if absent := [shard for shard in shards if not (folder / shard).exists()]:
        raise MissingFile(
            f"{index}: names {len(absent)} file(s) that are not there, first {absent[0]}; "
            "the download is incomplete"
        )
    tensors: dict[str, TensorInfo] = {}
    for shard in shards:
        found = read_header(folder / shard)
        for name in found:
            if placed.get(name) != shard:
                raise BadTensors(
                    f"{folder / shard}: holds {name}, which {INDEX} "
                    f"{'puts into ' + placed[name] if name in placed else 'does not name'}"
                )
        tensors |= found
    if lost := sorted(placed.keys() - tensors.keys()):
        raise BadTensors(f"{folder / placed[lost[0]]}: {INDEX} puts {lost[0]} here, but it is not")
    return tensors, shards


def _read_weight_map(index: Path) -> dict[str, str]:
    placed = read_json_object(index).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise BadConfig(f"{index}: weight_map must be an object that names at least one tensor")
    for name, shard in placed.items():
        plain = isinstance(shard, str) and shard and Path(shard).name == shard
        if not plain or len(shard.encode(errors="replace")) > _MAX_NAME_BYTES:
            raise BadConfig(
                f"{index}: {name}: expected the name of a file in this folder, found {shard!r}"
            )
    return placed
