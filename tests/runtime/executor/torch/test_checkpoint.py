"""Rank files that are damaged or do not fit their config are refused, by file and tensor."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmjp_runtime.errors import ArtefactInvalid, NotEnoughMemory, OptionInvalid
from llmjp_runtime.executor.torch import memory as torch_memory
from llmjp_runtime.executor.torch.checkpoint import ShardedCheckpoint
from llmjp_runtime.executor.torch.loader import load_model
from llmjp_runtime.executor.torch.model import ParallelLlama

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Tensors = dict[str, torch.Tensor]
QKV = "transformer.layers.0.attention.qkv.weight"


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint, to be spoilt."""
    return shutil.copytree(checkpoint, tmp_path / "copy")


def spoil(folder: Path, change: Callable[[Tensors], object]) -> None:
    path = folder / "rank1.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def missing(tensors: Tensors) -> None:
    del tensors[QKV]


def extra(tensors: Tensors) -> None:
    tensors["transformer.layers.0.attention.qkv.bias"] = torch.zeros(4)


def wrong_shape(tensors: Tensors) -> None:
    tensors[QKV] = tensors[QKV][:-1].clone()


def wrong_dtype(tensors: Tensors) -> None:
    tensors[QKV] = tensors[QKV].half()


def too_many_layers(tensors: Tensors) -> None:
    tensors.update({n.replace(".3.", ".4."): t.clone() for n, t in tensors.items() if ".3." in n})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (missing, f"lacks {QKV}"),
        (extra, "holds transformer.layers.0.attention.qkv.bias, which this model has no place for"),
        (wrong_shape, f"{QKV} has shape (95, 64), config.json implies (96, 64)"),
        (wrong_dtype, f"{QKV} is F16, config.json says float32"),
        (too_many_layers, "holds transformer.layers.4.attention.dense.weight, "),
    ],
)
def test_a_tensor_that_does_not_fit(
    folder: Path, change: Callable[[Tensors], None], says: str
) -> None:
    spoil(folder, change)
    with pytest.raises(ArtefactInvalid, match=re.escape(f"rank1.safetensors: {says}")):
        ShardedCheckpoint.open(folder)


def test_rotary_tables_may_be_there(folder: Path) -> None:
    spoil(folder, lambda tensors: tensors.update(rotary_inv_freq=torch.zeros(8)))
    assert ShardedCheckpoint.open(folder).layers_per_stage == (4,)


def test_a_rank_is_missing(folder: Path) -> None:
    (folder / "rank1.safetensors").unlink()
    with pytest.raises(ArtefactInvalid, match=r"rank1\.safetensors: cannot be read"):
        ShardedCheckpoint.open(folder)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_rank_is_cut_short(folder: Path, keep: int) -> None:
    path = folder / "rank0.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArtefactInvalid, match=r"rank0\.safetensors: is damaged") as caught:
        ShardedCheckpoint.open(folder)
    assert "\n" not in str(caught.value)


def test_layers_that_do_not_add_up(folder: Path) -> None:
    for rank in range(2):
        path = folder / f"rank{rank}.safetensors"
        save_file({n: t for n, t in load_file(path).items() if ".3." not in n}, path)
    with pytest.raises(ArtefactInvalid, match=r"the stages hold \(3,\) layers"):
        ShardedCheckpoint.open(folder)


@pytest.mark.parametrize("name", ["transformer.ln_f.weight", "transformer.vocab_embedding.weight"])
def test_copies_that_differ(folder: Path, name: str) -> None:
    spoil(folder, lambda tensors: tensors[name].add_(1))
    with pytest.raises(ArtefactInvalid, match=f"{name} is replicated, but differs"):
        load_model(folder, device="cpu")


@pytest.mark.parametrize(
    ("device", "dtype", "says"),
    [
        ("tpu3", "auto", "device 'tpu3' is unknown"),
        ("cuda:99", "auto", "device cuda:99 is not there"),
        ("cpu", "int8", "compute_dtype is 'int8'"),
    ],
)
def test_options_out_of_range(checkpoint: Path, device: str, dtype: str, says: str) -> None:
    with pytest.raises(OptionInvalid, match=says):
        load_model(checkpoint, device=device, compute_dtype=dtype)


def test_weights_that_do_not_fit_the_memory(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_memory, "read_free_memory", lambda device: 1000)
    with pytest.raises(NotEnoughMemory, match=r"weights needs .* on cpu, 0\.00 GiB is free"):
        load_model(checkpoint, device="cpu")


def test_a_cache_that_does_not_fit_the_memory(model: ParallelLlama) -> None:
    with pytest.raises(NotEnoughMemory, match=r"KV cache \(1000000 requests of 128 tokens\)"):
        model.allocate_cache(num_slots=1_000_000, max_length=128)


def test_free_memory_of_this_machine() -> None:
    free = torch_memory.read_free_memory(torch.device("cpu"))
    assert free is None or 1 << 20 < free < 1 << 50
