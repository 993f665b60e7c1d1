"""The model against transformers: logits and greedy ids, for every way to split it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import LlamaForCausalLM

from llmjp_runtime.executor.torch.loader import load_model
from llmjp_runtime.executor.torch.model import ParallelLlama
from tests.support.shared import shared

from .checkpoints import random_llama, write_checkpoint
from .running import new_scheduler, prompts, replies, request, transformers_greedy

if TYPE_CHECKING:
    from pathlib import Path

GOLDENS = [
    "bf16_tp1",
    "bf16_tp2",
    "bf16_tp4_kvdup",
    "bf16_tp2pp2",
    "bf16_pp2_oddlayers",
    "bf16_tp2_mha",
    "bf16_tp2_tied",
    "bf16_tp2_headdim32",
    "bf16_tp2_parallel_emb0",
    "bf16_tp2_parallel_emb1",
    "bf16_tp2_sharded",
    "bf16_from_fp32_tp2",
    "fp16_from_fp32_auto_tp2",
]
SPLITS = [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (1, 3)]
"""(tp, pp); tp 4 duplicates the two key heads, pp 3 gives stages of unequal length."""


def reference(folder: Path, dtype: torch.dtype) -> Any:
    """As stored, rounded to the checkpoint's dtype, computed in float32."""
    return LlamaForCausalLM.from_pretrained(folder, dtype=dtype).eval().float()


@torch.no_grad()
def logits_of(model: Any, ids: list[int]) -> torch.Tensor:
    logits: torch.Tensor = model(torch.tensor([ids])).logits[0].float()
    return logits


def test_every_golden_is_covered() -> None:
    index = json.loads((shared("trtllm-golden") / "index.json").read_text(encoding="utf-8"))
    assert {name for name in index if not name.startswith("fp8")} == set(GOLDENS)


@pytest.mark.parametrize("name", GOLDENS)
def test_goldens_agree_with_transformers(name: str) -> None:
    folder = shared("trtllm-golden") / name
    model = load_model(folder / "ckpt", device="cpu")
    expected = reference(folder / "hf", getattr(torch, model.config.dtype))
    asked = prompts(4, model.config.vocab_size, longest=90)
    for ids in asked:
        torch.testing.assert_close(
            model.compute_logits(ids), logits_of(expected, ids), atol=1e-5, rtol=1e-5
        )
    got = replies(new_scheduler(model), [request(ids) for ids in asked])
    assert [reply.token_ids for reply in got] == [
        transformers_greedy(expected, ids, 24) for ids in asked
    ]


@pytest.mark.parametrize(("tp", "pp"), SPLITS)
def test_splits_agree_with_transformers(llama: Any, tmp_path: Path, tp: int, pp: int) -> None:
    model = load_model(write_checkpoint(llama, tmp_path, tp=tp, pp=pp), device="cpu")
    asked = prompts(6)
    for ids in asked:
        torch.testing.assert_close(
            model.compute_logits(ids), logits_of(llama, ids), atol=2e-4, rtol=1e-4
        )
    got = replies(new_scheduler(model, prefill_budget=16), [request(ids) for ids in asked])
    assert [r.token_ids for r in got] == [transformers_greedy(llama, ids, 24) for ids in asked]


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_bfloat16_is_as_exact_as_transformers(tmp_path: Path, tp: int) -> None:
    """Two correct bf16 programs differ by rounding, so the yardstick is the float32 result.

    bf16 keeps 8 bits: transformers' own bf16 logits are off by some rms. Ours must not be off by
    more than 1.3 times as much (sums over ranks are rounded once more per rank), nor differ from
    transformers' by more than 2 rms: independent errors of equal size differ by sqrt(2).
    """
    dtype = torch.bfloat16
    exact = random_llama(dtype=dtype, initializer_range=0.08)
    folder = write_checkpoint(exact, tmp_path, tp=tp, dtype=dtype)
    exact.save_pretrained(tmp_path / "hf")
    theirs = LlamaForCausalLM.from_pretrained(tmp_path / "hf", dtype=dtype).eval()
    ours = load_model(folder, device="cpu", compute_dtype="bfloat16")
    ids = [i for prompt in prompts(3) for i in prompt][:100]
    truth, their_logits, our_logits = (
        logits_of(exact, ids),
        logits_of(theirs, ids),
        ours.compute_logits(ids),
    )
    their_error = rms(their_logits - truth)
    assert 0 < rms(our_logits - truth) < 1.3 * their_error < 0.05 * rms(truth)
    assert rms(our_logits - their_logits) < 2 * their_error


def rms(x: torch.Tensor) -> float:
    return float(x.square().mean().sqrt())


def test_float16_computes(llama: Any, tmp_path: Path) -> None:
    folder = write_checkpoint(llama, tmp_path, tp=2, dtype=torch.float16)
    half = load_model(folder, device="cpu", compute_dtype="float16")
    full = load_model(folder, device="cpu")
    assert (half.dtype, full.dtype) == (torch.float16, torch.float32)
    ids = prompts(1)[0]
    assert rms(half.compute_logits(ids) - full.compute_logits(ids)) < 0.02 * rms(
        full.compute_logits(ids)
    )


def test_logits_take_a_tensor(model: ParallelLlama) -> None:
    logits = model.compute_logits(torch.tensor([3, 1, 4]))
    assert logits.shape == (3, 211)
    assert torch.equal(logits, model.compute_logits([3, 1, 4]))
