"""Which files a build reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from llmjp_builder import tokenizer
from llmjp_builder.contracts.errors import (
    BadConfig,
    BadTensors,
    BuilderError,
    MissingFile,
    UnsupportedRequest,
)
from llmjp_builder.contracts.spec import FileRecord
from llmjp_builder.convert.checkpoint import read_checkpoint
from llmjp_builder.sources import selection
from llmjp_builder.sources.selection import select_files
from llmjp_builder.store.downloads import compute_content_digest

from .conftest import SHARDS, checkpoint, needed, write_files

if TYPE_CHECKING:
    from pathlib import Path

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def _never() -> bytes:
    raise AssertionError("there is no index to read")


def test_only_what_a_build_reads() -> None:
    files = checkpoint()
    names = select_files(files, lambda: files[selection.INDEX], "here")
    assert sorted(names) == sorted(needed())
    assert len(names) == len(set(names))


def test_a_single_weight_file() -> None:
    present = {"config.json", "model.safetensors", "extra.safetensors", *TOKENIZER, "README.md"}
    names = select_files(present, _never, "here")
    assert set(names) == {"config.json", "model.safetensors", *TOKENIZER}


def test_the_same_files_as_the_converter_reads(tmp_path: Path) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "vocab_size": 8,
        "max_position_embeddings": 8,
        "rms_norm_eps": 1e-5,
        "torch_dtype": "bfloat16",
    }
    files = checkpoint() | {"config.json": json.dumps(config).encode()}
    for shard, names in ((SHARDS[0], ("a", "c")), (SHARDS[1], ("b",))):
        header = {
            name: {"dtype": "BF16", "shape": [1], "data_offsets": [2 * i, 2 * i + 2]}
            for i, name in enumerate(names)
        }
        text = json.dumps(header).encode()
        files[shard] = len(text).to_bytes(8, "little") + text + b"\0\0" * len(names)
    write_files(tmp_path, files)
    read = read_checkpoint(tmp_path).files
    ours = select_files(files, lambda: files[selection.INDEX], "here")
    assert set(ours) == {*read, *tokenizer.REQUIRED, *tokenizer.OPTIONAL} & files.keys()


@pytest.mark.parametrize(
    ("present", "error", "words"),
    [
        ({"model.safetensors", *TOKENIZER}, MissingFile, "config.json"),
        ({"config.json", "model.safetensors"}, MissingFile, "tokenizer.json"),
        ({"config.json", *TOKENIZER}, MissingFile, "no weights"),
        ({"config.json", "pytorch_model.bin", *TOKENIZER}, UnsupportedRequest, "pytorch_model.bin"),
        ({"config.json", "x.gguf", *TOKENIZER}, UnsupportedRequest, "x.gguf"),
        (
            {"config.json", selection.SINGLE, selection.INDEX, *TOKENIZER},
            BadTensors,
            selection.INDEX,
        ),
    ],
)
def test_refused(present: set[str], error: type[BuilderError], words: str) -> None:
    with pytest.raises(error, match=words):
        select_files(present, _never, "here")


@pytest.mark.parametrize(
    "index",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b'{"weight_map": {}}',
        b'{"weight_map": {"a": 1}}',
        b'{"weight_map": {"a": "../x.safetensors"}}',
        b'{"weight_map": {"a": "/x.safetensors"}}',
        b'{"weight_map": {"a": "sub/x.safetensors"}}',
        b'{"weight_map": {"a": ""}}',
        b'{"weight_map": {"a": ".."}}',
        b'{"weight_map": {"a": "token"}}',
    ],
)
def test_an_index_that_cannot_be_meant(index: bytes) -> None:
    present = {"config.json", selection.INDEX, "token", *TOKENIZER}
    with pytest.raises(BadConfig, match=selection.INDEX):
        select_files(present, lambda: index, "here")


def test_a_shard_that_is_not_there() -> None:
    present = {"config.json", selection.INDEX, SHARDS[0], *TOKENIZER}
    index = json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}).encode()
    with pytest.raises(MissingFile, match=SHARDS[1]):
        select_files(present, lambda: index, "here")


def test_digest_follows_names_and_contents_only() -> None:
    one, two = FileRecord(size=1, sha256="a" * 64), FileRecord(size=2, sha256="b" * 64)
    digest = compute_content_digest({"x": one, "y": two})
    assert digest == compute_content_digest({"y": two, "x": one})
    assert len(digest) == 20
    others = [{"x": one}, {"x": two, "y": one}, {"x": one, "z": two}]
    assert digest not in [compute_content_digest(files) for files in others]
