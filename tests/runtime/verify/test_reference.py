"""The reference is transformers' Llama: logits, and greedy replies of many texts together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from llmjp_runtime.verify.generation import continue_greedily
from llmjp_runtime.verify.reference import Reference, new_history
from llmjp_runtime.verify.reference_files import ReferenceFiles
from tests.runtime.executor.torch.running import transformers_greedy
from tests.support.shared import shared

from .models import TINY, Prompts, random_folder, random_prompts

CPU = torch.device("cpu")


@torch.inference_mode()
def logits(reference: Reference, texts: Prompts) -> list[torch.Tensor]:
    lengths = [len(ids) for ids in texts]
    x = reference.embed(texts)
    for index in range(reference.files.config.num_hidden_layers):
        layer = reference.layer(index)
        x = x + layer.attend(x, lengths, [new_history() for _ in texts])
        x = x + layer.feed_forward(x)
    return list(torch.split(reference.head()(x), lengths))


@torch.no_grad()
def assert_is_transformers(folder: Path, *, num_new: int = 0) -> None:
    reference = Reference(ReferenceFiles.open(folder), CPU)
    theirs = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    texts = random_prompts(5, theirs.config.vocab_size)
    for ids, found in zip(texts, logits(reference, texts), strict=True):
        expected = theirs(torch.tensor([ids])).logits[0]
        scale = max(1.0, float(expected.std()))
        torch.testing.assert_close(found, expected, atol=2e-5 * scale, rtol=1e-5)
    calls: list[None] = []
    got = continue_greedily(
        reference,
        texts,
        max_tokens=num_new + 1,
        end_ids=frozenset(),
        on_layer=lambda: calls.append(None),
    )
    assert len(calls) == num_new * reference.files.config.num_hidden_layers
    for ids, text in zip(texts, got, strict=True):
        assert text.num_prompt == len(ids)
        assert text.ids == ids + transformers_greedy(theirs, ids, num_new)


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"num_key_value_heads": 8, "rms_norm_eps": 1e-3},
        {"head_dim": 32, "rope_theta": 500000.0},
        {"tie_word_embeddings": True, "vocab_size": 97},
        {"shard": "100KB"},
    ],
)
def test_random_shapes(tmp_path: Path, shape: dict[str, Any]) -> None:
    assert_is_transformers(random_folder(tmp_path, **shape), num_new=6)


def test_the_example_model() -> None:
    assert_is_transformers(TINY, num_new=6)


@pytest.mark.parametrize("name", ["bf16_tp2_sharded", "bf16_tp2_tied", "bf16_from_fp32_tp2"])
def test_goldens(name: str) -> None:
    assert_is_transformers(shared("trtllm-golden") / name / "hf")


def test_a_reply_ends_at_an_end_id(tmp_path: Path) -> None:
    reference = Reference(ReferenceFiles.open(random_folder(tmp_path)), CPU)
    texts = random_prompts(4, 211)

    def replies(end_ids: frozenset[int]) -> list[tuple[int, ...]]:
        got = continue_greedily(
            reference, texts, max_tokens=9, end_ids=end_ids, on_layer=lambda: None
        )
        return [text.ids[text.num_prompt :] for text in got]

    free = replies(frozenset())
    end = free[0][3]
    assert replies(frozenset({end})) == [
        ids[: ids.index(end)] if end in ids else ids for ids in free
    ]
