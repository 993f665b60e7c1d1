"""A machine with a GPU and TensorRT-LLM, as far as a build can tell; and a hub."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmjp_builder.contracts.spec import Backend, BuildSpec, Source
from tests.engine_builder.checkpoints import Tiny, add_tokenizer, write_checkpoint
from tests.support.hub import Hub
from tests.support.shared import ROOT, shared

REPOSITORY = "llm-jp/llm-jp-3-150m"
STANDIN = ROOT / "tests" / "support" / "trtllm_build" / "bin"
MODEL = Tiny(hidden=32, inter=64, heads=4, kv_heads=4, head_size=8, vocab=11)


def engine_from(hub: Hub) -> BuildSpec:
    """An engine for two ranks, of the hub's repository."""
    return BuildSpec(
        source=Source(repository=REPOSITORY),
        endpoint=hub.endpoint,
        backend=Backend.TENSORRT,
        tensor_parallel=2,
        max_seq_len=64,
    )


@pytest.fixture
def gpu_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Holds for this process and those it starts: nvidia-smi, TensorRT-LLM and its compiler."""
    programs, packages = tmp_path / "machine" / "bin", tmp_path / "machine" / "packages"
    programs.mkdir(parents=True)
    smi = programs / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 9.0, 81559'\n")
    smi.chmod(0o755)
    for name, version in (("tensorrt_llm", "1.2.1"), ("tensorrt", "10.14.1.48")):
        info = packages / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    recording = shared("trtllm-golden") / "trtllm_build_args_1.3.0rc3.json"
    places = (programs, STANDIN, Path(sys.executable).parent, os.environ["PATH"])
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, places)))
    monkeypatch.setenv("PYTHONPATH", str(packages))
    monkeypatch.syspath_prepend(str(packages))
    monkeypatch.setenv("LLMJP_STANDIN_ARGUMENTS", str(recording))
    monkeypatch.delenv("LLMJP_STANDIN_FAILURE", raising=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A checkpoint in two shards, whose engine the stand-in compiles."""
    return add_tokenizer(write_checkpoint(tmp_path / "hf", MODEL, shards=2))


@pytest.fixture
def hub(source: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Has `source` as a repository, and asks nobody for a token."""
    import huggingface_hub

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with Hub() as server:
        server.publish(REPOSITORY, {path.name: path.read_bytes() for path in source.iterdir()})
        yield server
