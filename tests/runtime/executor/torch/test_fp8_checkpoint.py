"""Scales that are missing, no numbers, or at odds with each other are refused, by file and name."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmjp_runtime.errors import ArtefactInvalid, UnsupportedModel
from llmjp_runtime.executor.torch.checkpoint import ShardedCheckpoint
from llmjp_runtime.executor.torch.config import read_config
from llmjp_runtime.executor.torch.loader import load_model

from .checkpoints import random_llama
from .fp8_reference import fp8_checkpoint, input_amax
from .running import prompts

Tensors = dict[str, torch.Tensor]
LAYER = "transformer.layers.1."
QKV = f"{LAYER}attention.qkv."
KV = f"{LAYER}attention.kv_cache_scaling_factor"
K = f"{LAYER}attention.k_cache_scaling_factor"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ranks in FP8; nobody changes it."""
    folder = tmp_path_factory.mktemp("fp8")
    llama = random_llama(dtype=torch.bfloat16, num_hidden_layers=2)
    amax = input_amax(llama, prompts(1))
    llama.bfloat16().save_pretrained(folder / "hf")
    return fp8_checkpoint(folder / "hf", folder / "out", amax, tensor_parallel=2)


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A copy, to be spoilt."""
    return shutil.copytree(sound, tmp_path / "copy")


def spoil(folder: Path, change: Callable[[Tensors], object], *ranks: int) -> None:
    for rank in ranks or (0, 1):
        path = folder / f"rank{rank}.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)


def configure(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    raw["quantization"] |= changes
    path.write_text(json.dumps(raw), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (f"{QKV}weights_scaling_factor", None, "lacks transformer.layers.1.attention.qkv.weights_"),
        (f"{QKV}activation_scaling_factor", None, "lacks transformer.layers.1.attention.qkv.act"),
        (KV, None, "lacks transformer.layers.1.attention.kv_cache_scaling_factor"),
        (KV, torch.ones(2), "has shape (2,), config.json implies (1,)"),
        (KV, torch.ones(1).half(), "is F16, config.json (quantization) implies F32"),
        (f"{QKV}weight", torch.zeros(96, 64).bfloat16(), "(quantization) implies F8_E4M3"),
        (f"{LAYER}input_layernorm.weight", torch.zeros(64), "is F32, config.json says bfloat16"),
        (f"{QKV}prequant_scaling_factor", torch.ones(1), "which this model has no place for"),
    ],
)
def test_headers(folder: Path, name: str, value: torch.Tensor | None, says: str) -> None:
    spoil(folder, lambda t: t.pop(name) if value is None else t.update({name: value.clone()}), 1)
    with pytest.raises(ArtefactInvalid, match=r"rank1\.safetensors: .*" + re.escape(says)):
        ShardedCheckpoint.open(folder)


@pytest.mark.parametrize("value", [0.0, -1.0, torch.nan, torch.inf])
@pytest.mark.parametrize("name", [f"{QKV}weights_scaling_factor", KV, K])
def test_no_number(folder: Path, name: str, value: float) -> None:
    spoil(folder, lambda t: t.update({name: torch.tensor([value])}))
    with pytest.raises(ArtefactInvalid, match=re.escape(f"{name} is {value}, expected")) as caught:
        load_model(folder, device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "ranks", "says"),
    [
        (f"{QKV}activation_scaling_factor", [1], "on the first rank"),
        (f"{LAYER}mlp.fc.weights_scaling_factor", [], "the scales of mlp.fc and mlp.gate differ"),
        (f"{LAYER}mlp.gate.activation_scaling_factor", [], "of mlp.fc and mlp.gate differ"),
        (KV, [], "kv_cache_scaling_factor is 2.0, but those of keys and values are [1.0, 1.0]"),
        (K, [], "kv_cache_scaling_factor is 1.0, but those of keys and values are [2.0, 1.0]"),
    ],
)
def test_scales_at_odds(folder: Path, name: str, ranks: list[int], says: str) -> None:
    spoil(folder, lambda t: t[name].mul_(2), *ranks)
    with pytest.raises(ArtefactInvalid, match=re.escape(says)):
        load_model(folder, device="cpu")


def test_a_rank_without_an_optional_scale(folder: Path) -> None:
    spoil(folder, lambda t: t.pop(K), 1)
    with pytest.raises(
        ArtefactInvalid, match=r"k_cache_scaling_factor is None, but 1.0 on the first"
    ):
        load_model(folder, device="cpu")


def test_what_other_converters_write(sound: Path, folder: Path) -> None:
    """Scales without a dimension, and one for keys and values together."""

    def change(tensors: Tensors) -> None:
        for name in list(tensors):
            if name.endswith((".k_cache_scaling_factor", ".v_cache_scaling_factor")):
                del tensors[name]
            elif name.endswith("_scaling_factor"):
                tensors[name] = tensors[name].reshape(())

    spoil(folder, change)
    ids = prompts(1)[0]
    ours, theirs = (load_model(f, device="cpu").compute_logits(ids) for f in (folder, sound))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("names", [None, ["*lm_head"], ["lm_head", "*router", "*vocab_embedding"]])
def test_excluded_modules(folder: Path, names: list[str] | None) -> None:
    configure(folder, exclude_modules=names)
    assert read_config(folder / "config.json").fp8_linears


@pytest.mark.parametrize(
    ("names", "error", "says"),
    [
        ([], UnsupportedModel, "lm_head in FP8"),
        (["*vocab_embedding"], UnsupportedModel, "lm_head in FP8"),
        (["lm_head", "*mlp.fc"], UnsupportedModel, 'exclude_modules with "*mlp.fc"'),
        ("lm_head", ArtefactInvalid, 'exclude_modules is "lm_head", expected names'),
        ([1], ArtefactInvalid, "exclude_modules is [1], expected names"),
    ],
)
def test_other_exclusions(folder: Path, names: object, error: type[Exception], says: str) -> None:
    configure(folder, exclude_modules=names)
    with pytest.raises(error, match=re.escape(says)):
        read_config(folder / "config.json")


def test_fp8_tensors_without_fp8_in_the_config(folder: Path) -> None:
    configure(folder, quant_algo=None)
    with pytest.raises(ArtefactInvalid, match="which this model has no place for"):
        ShardedCheckpoint.open(folder)
