"""Which files a build reads."""

from __future__ import annotations

import json

import pytest

from llmjp_builder import checkpoint as convertible
from llmjp_builder.errors import BadConfig, BadTensors, BuilderError, MissingFile, Unsupported
from llmjp_builder.sources import selection
from llmjp_builder.sources.selection import content_digest, needed_files
from llmjp_builder.spec import FileRecord

from .conftest import SHARDS, checkpoint, needed

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def _never() -> bytes:
    raise AssertionError("there is no index to read")


def test_only_what_a_build_reads() -> None:
    files = checkpoint()
    names = needed_files(files, lambda: files[selection.INDEX], "here")
    assert sorted(names) == sorted(needed())
    assert len(names) == len(set(names))


def test_a_single_weight_file() -> None:
    present = {"config.json", "model.safetensors", "extra.safetensors", *TOKENIZER, "README.md"}
    names = needed_files(present, _never, "here")
    assert set(names) == {"config.json", "model.safetensors", *TOKENIZER}


def test_names_are_those_of_the_converter() -> None:
    ours = (selection.CONFIG, selection.SINGLE, selection.INDEX)
    assert ours == (convertible.CONFIG, convertible.SINGLE, convertible.INDEX)


@pytest.mark.parametrize(
    ("present", "error", "words"),
    [
        ({"model.safetensors", *TOKENIZER}, MissingFile, "config.json"),
        ({"config.json", "model.safetensors"}, MissingFile, "tokenizer.json"),
        ({"config.json", *TOKENIZER}, MissingFile, "no weights"),
        ({"config.json", "pytorch_model.bin", *TOKENIZER}, Unsupported, "pytorch_model.bin"),
        ({"config.json", "x.gguf", *TOKENIZER}, Unsupported, "x.gguf"),
        (
            {"config.json", selection.SINGLE, selection.INDEX, *TOKENIZER},
            BadTensors,
            selection.INDEX,
        ),
    ],
)
def test_refused(present: set[str], error: type[BuilderError], words: str) -> None:
    with pytest.raises(error, match=words):
        needed_files(present, _never, "here")


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
        needed_files(present, lambda: index, "here")


def test_a_shard_that_is_not_there() -> None:
    present = {"config.json", selection.INDEX, SHARDS[0], *TOKENIZER}
    index = json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}).encode()
    with pytest.raises(MissingFile, match=SHARDS[1]):
        needed_files(present, lambda: index, "here")


def test_digest_follows_names_and_contents_only() -> None:
    one, two = FileRecord(size=1, sha256="a" * 64), FileRecord(size=2, sha256="b" * 64)
    digest = content_digest({"x": one, "y": two})
    assert digest == content_digest({"y": two, "x": one})
    assert len(digest) == 20
    others = [{"x": one}, {"x": two, "y": one}, {"x": one, "z": two}]
    assert digest not in [content_digest(files) for files in others]
