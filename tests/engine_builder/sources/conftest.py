"""A hub of our own, and a checkpoint to publish on it."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from tests.engine_builder.checkpoints import Tiny, render_tokenizer
from tests.support.hub import Hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPOSITORY = "llm-jp/llm-jp-3-150m"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def checkpoint() -> dict[str, bytes]:
    """Files of a repository: those a build reads, and others. The weights are random bytes."""
    source = random.Random(7)
    index = {"weight_map": {"a": SHARDS[0], "b": SHARDS[1], "c": SHARDS[0]}}
    return {
        "config.json": json.dumps(Tiny().config()).encode(),
        **{name: json.dumps(file).encode() for name, file in render_tokenizer().items()},
        "model.safetensors.index.json": json.dumps(index).encode(),
        SHARDS[0]: source.randbytes(200_000),
        SHARDS[1]: source.randbytes(120_000),
        "README.md": b"a card",
        ".gitattributes": b"*.safetensors filter=lfs\n",
        "pytorch_model.bin": b"pickled",
        "model.gguf": b"GGUF",
        "original/model.safetensors": b"another layout",
    }


def needed() -> dict[str, bytes]:
    """Those of `checkpoint` that a build reads."""
    return {
        name: data
        for name, data in checkpoint().items()
        if "/" not in name and name.endswith((".json", ".safetensors"))
    }


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """`files` into `folder`."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No token and no endpoint of whoever runs the tests."""
    import huggingface_hub

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub with one public repository."""
    with Hub() as server:
        server.publish(REPOSITORY, checkpoint())
        yield server
