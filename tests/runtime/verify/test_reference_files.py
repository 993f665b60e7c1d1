"""References that are damaged, or no plain Llama, are refused by file and name."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmjp_runtime.errors import ArtefactInvalid, RuntimeFailure
from llmjp_runtime.executor.torch.config import read_config
from llmjp_runtime.verify.errors import (
    DifferentModel,
    ReferenceInvalid,
    ReferenceUnsupported,
    TransformersMissing,
)
from llmjp_runtime.verify.reference_config import (
    get_rotary_embedding,
    read_reference_config,
    require_same_model,
)
from llmjp_runtime.verify.reference_files import ReferenceFiles
from tests.runtime.executor.torch.checkpoints import portable_config, random_llama
from tests.support.shared import shared

from .models import random_folder

INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return random_folder(tmp_path / "hf", num_hidden_layers=2)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return random_folder(tmp_path / "hf", num_hidden_layers=2, shard="60KB")


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"architectures": ["MistralForCausalLM"]}, ReferenceUnsupported, "supported: Llama"),
        (
            {"architectures": None, "model_type": None},
            ReferenceUnsupported,
            "supported: Llama",
        ),
        ({"hidden_act": "gelu"}, ReferenceUnsupported, 'hidden_act "gelu"'),
        ({"attention_bias": True}, ReferenceUnsupported, "attention_bias true"),
        ({"quantization_config": {"bits": 4}}, ReferenceUnsupported, "quantization_config"),
        ({"rope_scaling": {"type": "dynamic"}}, ReferenceUnsupported, "rope_type is 'dynamic'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, ReferenceInvalid, "rope_parameters: factor"),
        ({"hidden_size": "64"}, ReferenceInvalid, 'hidden_size is "64", expected an int >= 1'),
        ({"vocab_size": None}, ReferenceInvalid, "vocab_size is null"),
        ({"num_hidden_layers": True}, ReferenceInvalid, "num_hidden_layers is true"),
        ({"num_key_value_heads": 3}, ReferenceInvalid, "numbers of heads"),
        ({"rms_norm_eps": 0}, ReferenceInvalid, "rms_norm_eps is 0"),
    ],
)
def test_configs(
    folder: Path, changes: dict[str, Any], error: type[RuntimeFailure], says: str
) -> None:
    edit(folder / "config.json", **changes)
    with pytest.raises(error, match=re.escape(says)) as caught:
        ReferenceFiles.open(folder)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == (6 if error is ReferenceUnsupported else 3)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_no_config(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ReferenceInvalid):
        ReferenceFiles.open(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ReferenceInvalid, match="cannot be read"):
        ReferenceFiles.open(folder)


def test_rope_theta_of_both_generations_of_transformers(folder: Path) -> None:
    path = folder / "config.json"
    edit(path, rope_parameters=None, rope_theta=123)
    assert get_rotary_embedding(read_reference_config(path)).theta == 123
    edit(path, rope_parameters={"rope_type": "default", "rope_theta": 456.0}, rope_theta=None)
    assert get_rotary_embedding(read_reference_config(path)).theta == 456


def test_a_tensor_is_missing(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.norm.weight"]
    save_file(tensors, path)
    with pytest.raises(ReferenceInvalid, match=r"lacks model\.norm\.weight \(1 are missing\)"):
        ReferenceFiles.open(folder)


@pytest.mark.parametrize(
    ("tensor", "says"),
    [(torch.zeros(63), "has shape (63,)"), (torch.zeros(64, dtype=torch.int8), "is I8")],
)
def test_a_tensor_does_not_fit(folder: Path, tensor: torch.Tensor, says: str) -> None:
    path = folder / "model.safetensors"
    save_file(load_file(path) | {"model.norm.weight": tensor}, path)
    with pytest.raises(ReferenceInvalid, match=re.escape(f"model.norm.weight {says}")):
        ReferenceFiles.open(folder)


def test_shards(sharded: Path) -> None:
    placed = json.loads((sharded / INDEX).read_text("utf-8"))["weight_map"]
    assert len(set(placed.values())) > 2
    (sharded / placed["model.norm.weight"]).unlink()
    with pytest.raises(ArtefactInvalid, match="cannot be read"):
        ReferenceFiles.open(sharded)


@pytest.mark.parametrize("weight_map", [None, [], {"model.norm.weight": 1}, {"a": "../b"}])
def test_an_index_that_is_none(sharded: Path, weight_map: object) -> None:
    edit(sharded / INDEX, weight_map=weight_map)
    with pytest.raises(ReferenceInvalid, match="weight_map must name a file"):
        ReferenceFiles.open(sharded)


def test_an_index_that_is_wrong(sharded: Path) -> None:
    placed = json.loads((sharded / INDEX).read_text("utf-8"))["weight_map"]
    other = next(file for file in placed.values() if file != placed["model.norm.weight"])
    edit(sharded / INDEX, weight_map=placed | {"model.norm.weight": other})
    with pytest.raises(ReferenceInvalid, match=r"lacks model\.norm\.weight, which model"):
        ReferenceFiles.open(sharded)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"vocab_size": 212}, "vocab_size is 212, the reference has 211"),
        ({"num_hidden_layers": 3}, "num_hidden_layers is 3, the reference has 2"),
        ({"rotary_base": 500000.0}, "rotary_base is 500000.0, the reference has 10000.0"),
        ({"norm_epsilon": 1e-5}, "norm_epsilon is 1e-05, the reference has 1e-06"),
        ({"intermediate_size": 90}, "intermediate_size is 90, the reference has 96"),
    ],
)
def test_another_model(folder: Path, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    config = random_llama(num_hidden_layers=2).config
    raw = portable_config(config, tp=1, pp=1, dtype="bfloat16") | change
    path = tmp_path / "config.json"
    path.write_text(json.dumps(raw), encoding="utf-8")
    reference = read_reference_config(folder / "config.json")
    with pytest.raises(DifferentModel, match=re.escape(says)):
        require_same_model(reference, read_config(path), path)


def test_a_padded_width_is_the_same_model(folder: Path, tmp_path: Path) -> None:
    config = random_llama(num_hidden_layers=2).config
    raw = portable_config(config, tp=1, pp=1, dtype="bfloat16") | {"intermediate_size": 128}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(raw), encoding="utf-8")
    reference = read_reference_config(folder / "config.json")
    require_same_model(reference, read_config(path), path)


def test_every_golden_is_the_same_model() -> None:
    for folder in shared("trtllm-golden").glob("*/ckpt"):
        path = folder / "config.json"
        reference = read_reference_config(folder.parent / "hf" / "config.json")
        require_same_model(reference, read_config(path), path)


def test_without_transformers_it_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(TransformersMissing, match=r"pip install 'llmjp-serving\[verify\]'"):
        ReferenceFiles.open(folder)
