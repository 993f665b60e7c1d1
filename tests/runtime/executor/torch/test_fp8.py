"""FP8 checkpoints against transformers with fake-quantised layers: logits and greedy ids.

Both sides compute in float32, but sum in different orders. Now and then that moves a number across
the middle between two e4m3 values, and a step of e4m3 (6%) is no rounding error; every later
position sees it. So most positions must agree as floats do, and the others within what single steps
amount to. Wrong arithmetic leaves no position in agreement.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import LlamaForCausalLM

from llmjp_runtime.executor.torch.fp8 import E4M3, Fp8Linear, LinearScales, quantize
from llmjp_runtime.executor.torch.loader import load_model
from llmjp_runtime.executor.torch.model import ParallelLlama
from tests.support.shared import ROOT, shared

from .checkpoints import random_llama
from .fp8_reference import fake_quantise, fp8_checkpoint, golden_reference, input_amax
from .running import new_scheduler, prompts, replies, request, transformers_greedy

if TYPE_CHECKING:
    from pathlib import Path

GOLDENS = ["fp8_tp1", "fp8_tp2", "fp8_tp4_kvdup", "fp8_tp2_nokv", "fp8_tp2pp2"]
TINY = ROOT / "examples" / "tiny-model" / "checkpoint"


@torch.no_grad()
def assert_same_logits(ours: ParallelLlama, theirs: Any, asked: list[list[int]]) -> None:
    pairs = [(ours.compute_logits(ids), theirs(torch.tensor([ids])).logits[0]) for ids in asked]
    errors = torch.cat([(a - b).abs().amax(-1) for a, b in pairs])
    spread = float(torch.cat([b for _, b in pairs]).std())
    assert (errors < 1e-5 * max(1.0, spread)).float().mean() > 0.6
    assert errors.max() < 0.2 * spread


def test_every_golden_is_covered() -> None:
    index = json.loads((shared("trtllm-golden") / "index.json").read_text(encoding="utf-8"))
    assert {name for name in index if name.startswith("fp8")} == set(GOLDENS)


@pytest.mark.parametrize("name", GOLDENS)
def test_goldens_agree_with_fake_quantised_transformers(name: str) -> None:
    folder = shared("trtllm-golden") / name
    model = load_model(folder / "ckpt", device="cpu")
    assert model.config.fp8_linears
    assert model.config.fp8_kv_cache == (name != "fp8_tp2_nokv")
    expected = golden_reference(folder, kv=model.config.fp8_kv_cache)
    asked = prompts(6, model.config.vocab_size, longest=90)
    assert_same_logits(model, expected, asked)
    got = replies(new_scheduler(model, prefill_budget=16), [request(ids) for ids in asked])
    assert [reply.token_ids for reply in got] == [
        transformers_greedy(expected, ids, 24) for ids in asked
    ]


def test_the_yardstick_tells_fp8_from_its_absence() -> None:
    folder = shared("trtllm-golden") / "fp8_tp2"
    plain = LlamaForCausalLM.from_pretrained(folder / "hf", dtype=torch.bfloat16).eval().float()
    without_kv = golden_reference(folder, kv=False)
    model = load_model(folder / "ckpt", device="cpu")
    for other in (plain, without_kv):
        with pytest.raises(AssertionError):
            assert_same_logits(model, other, prompts(4, 101, longest=90))


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ({}, {"tensor_parallel": 4}),
        ({"num_key_value_heads": 8, "num_hidden_layers": 3}, {"pipeline_parallel": 3}),
        ({"head_dim": 32, "vocab_size": 97}, {"tensor_parallel": 2, "pipeline_parallel": 2}),
        ({"intermediate_size": 88}, {"tensor_parallel": 2, "pad_intermediate": 16}),
        ({"num_hidden_layers": 2}, {"tensor_parallel": 2, "kv_cache": "auto"}),
    ],
)
def test_other_shapes(tmp_path: Path, shape: dict[str, Any], options: dict[str, Any]) -> None:
    random_llama(initializer_range=0.08, **shape).bfloat16().save_pretrained(tmp_path / "hf")
    llama = LlamaForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32).eval()
    vocab = llama.config.vocab_size
    amax = input_amax(llama, prompts(2, vocab, longest=60))
    folder = fp8_checkpoint(tmp_path / "hf", tmp_path / "out", amax, kv_amax=900.0, **options)
    model = load_model(folder, device="cpu")
    kv = dict.fromkeys(range(len(model.layers)), 900.0 / 448) if model.config.fp8_kv_cache else None
    asked = prompts(24, vocab, longest=12)
    fake_quantise(llama, amax, kv)
    assert_same_logits(model, llama, asked)


def test_the_example_model(tmp_path: Path) -> None:
    theirs = LlamaForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval()
    asked = prompts(24, theirs.config.vocab_size, longest=8)
    amax = input_amax(theirs, asked)
    folder = fp8_checkpoint(TINY, tmp_path / "out", amax, tensor_parallel=2)
    kv = dict.fromkeys(range(theirs.config.num_hidden_layers), 1.0)
    assert_same_logits(load_model(folder, device="cpu"), fake_quantise(theirs, amax, kv), asked)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_dtypes_around_fp8(dtype: str) -> None:
    folder = shared("trtllm-golden") / "fp8_tp2" / "ckpt"
    full = load_model(folder, device="cpu")
    half = load_model(folder, device="cpu", compute_dtype=dtype)
    assert half.dtype == getattr(torch, dtype)
    ids = prompts(1, 101, shortest=60)[0]
    exact, rounded = full.compute_logits(ids), half.compute_logits(ids)
    assert 0 < (rounded - exact).square().mean().sqrt() < 0.1 * exact.std()


def test_the_cache_takes_one_byte_a_number() -> None:
    folder = shared("trtllm-golden") / "fp8_tp2" / "ckpt"
    cache = load_model(folder, device="cpu").allocate_cache(num_slots=2, max_length=8)
    assert {cache.keys.dtype, cache.values.dtype} == {E4M3}
    assert cache.keys.nbytes == 2 * 2 * 8 * 2 * 16  # layers, slots, cells, heads, head size


def test_quantise_clamps_and_keeps_nan() -> None:
    x = torch.tensor([1.0, -2000.0, 2000.0, torch.inf, 0.5 * 2**-9, torch.nan])
    got = quantize(x, 2.0).float().tolist()
    assert got[:5] == [0.5, -448.0, 448.0, 448.0, 0.0]
    assert got[5] != got[5]


def test_weights_may_be_kept_narrow_or_wide() -> None:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(24, 40, generator=generator).to(E4M3)
    x = torch.randn(5, 40, generator=generator)
    scales = LinearScales(weight=0.25, input=0.01)
    narrow, wide = Fp8Linear(weight, scales), Fp8Linear(weight.float(), scales)
    assert torch.equal(narrow(x), wide(x))
    exact = quantize(x, 0.01).double() @ weight.double().T * 0.0025
    torch.testing.assert_close(narrow(x).double(), exact, atol=1e-5, rtol=1e-5)
