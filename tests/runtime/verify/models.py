"""Hugging Face folders, the checkpoints our builder makes of them, and ways to spoil those."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from llmjp_builder.contracts.spec import LayoutOptions
from llmjp_builder.convert.conversion import convert_checkpoint, prepare_ranks
from llmjp_builder.progress import Reporter
from llmjp_runtime.text.tokenizer import TextTokenizer
from llmjp_runtime.verify.prompts import BUILT_IN, encode_prompts
from tests.runtime.executor.torch.checkpoints import random_llama
from tests.runtime.executor.torch.fp8_reference import fp8_checkpoint, input_amax
from tests.runtime.executor.torch.running import prompts
from tests.support.shared import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TINY = ROOT / "examples" / "tiny-model" / "checkpoint"

Tensors = dict[str, torch.Tensor]
Prompts = list[tuple[int, ...]]


def random_prompts(num: int, vocab_size: int, longest: int = 40) -> Prompts:
    return [tuple(ids) for ids in prompts(num, vocab_size, longest=longest)]


def random_folder(folder: Path, *, shard: str = "5GB", **shape: Any) -> Path:
    """A random Llama in bfloat16, as transformers saves it."""
    model = random_llama(**{"initializer_range": 0.05} | shape).bfloat16()
    model.save_pretrained(folder, max_shard_size=shard)
    return folder


@dataclass(frozen=True, slots=True)
class Pair:
    """A model, and sound checkpoints of it for two ranks."""

    reference: Path
    plain: Path
    fp8: Path
    prompts: Prompts


def tiny_pair(folder: Path) -> Pair:
    tokenizer = TextTokenizer.load(TINY)
    return _pair(folder, TINY, encode_prompts(BUILT_IN[:4], tokenizer))


def random_pair(folder: Path) -> Pair:
    return _pair(folder, random_folder(folder / "hf"), random_prompts(6, 211))


def _pair(folder: Path, source: Path, asked: Prompts) -> Pair:
    convert_checkpoint(
        prepare_ranks(source, LayoutOptions(tensor_parallel=2)), folder / "plain", Reporter(None)
    )
    model = LlamaForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    amax = input_amax(model, asked[:2])
    fp8_checkpoint(source, folder / "fp8", amax, tensor_parallel=2)
    return Pair(source, folder / "plain", folder / "fp8", asked)


def spoilt(sound: Path, folder: Path, change: Callable[[list[Tensors]], object]) -> Path:
    """A copy, its ranks' tensors changed together."""
    shutil.copytree(sound, folder)
    paths = sorted(folder.glob("rank*.safetensors"))
    ranks = [load_file(path) for path in paths]
    change(ranks)
    for path, tensors in zip(paths, ranks, strict=True):
        save_file(tensors, path)
    return folder
