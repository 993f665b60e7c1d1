"""The example model, through the builder, on two hundred Japanese prompts: greedy ids are equal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from transformers import AutoTokenizer, GenerationConfig, LlamaForCausalLM

from llmjp_builder.contracts.spec import LayoutOptions
from llmjp_builder.convert.conversion import convert_checkpoint, prepare_ranks
from llmjp_builder.progress import Reporter
from llmjp_runtime.executor.protocol import SamplingParams
from llmjp_runtime.executor.torch.loader import load_model
from tests.support.shared import ROOT, shared

from .running import new_scheduler, replies, request

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = ROOT / "examples" / "tiny-model" / "checkpoint"
END_ID = 2
GREEDY = SamplingParams(max_tokens=24, temperature=0.0, end_ids=frozenset({END_ID}))
BATCH = 40

Ids = tuple[int, ...]


@pytest.fixture(scope="module")
def prompts() -> list[Ids]:
    """Every line as a user's turn."""
    lines = shared("prompts-ja.txt").read_text(encoding="utf-8").splitlines()
    tokenizer = AutoTokenizer.from_pretrained(SOURCE)
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": line}], add_generation_prompt=True, tokenize=False
        )
        for line in lines
    ]
    return [tuple(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


@pytest.fixture(scope="module")
def expected(prompts: list[Ids]) -> dict[Ids, Ids]:
    """What transformers answers in float32."""
    model = LlamaForCausalLM.from_pretrained(SOURCE, dtype=torch.float32).eval()
    config = GenerationConfig(
        do_sample=False, max_new_tokens=GREEDY.max_tokens, eos_token_id=END_ID, pad_token_id=END_ID
    )
    found: dict[Ids, Ids] = {}
    by_length = sorted(prompts, key=len)
    for first in range(0, len(by_length), BATCH):
        batch = by_length[first : first + BATCH]
        width = len(batch[-1])
        ids = torch.tensor([[END_ID] * (width - len(p)) + list(p) for p in batch])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in batch])
        out = model.generate(ids, attention_mask=mask, generation_config=config)
        for prompt, row in zip(batch, out[:, width:].tolist(), strict=True):
            found[prompt] = tuple(row[: row.index(END_ID)] if END_ID in row else row)
    return found


@pytest.mark.parametrize(("tp", "pp"), [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2)])
def test_greedy_ids_are_those_of_transformers(
    prompts: list[Ids], expected: dict[Ids, Ids], tmp_path: Path, tp: int, pp: int
) -> None:
    conversion = prepare_ranks(SOURCE, LayoutOptions(tensor_parallel=tp, pipeline_parallel=pp))
    convert_checkpoint(conversion, tmp_path / "ranks", Reporter(None))
    model = load_model(tmp_path / "ranks", device="cpu")
    assert (model.dtype, model.config.dtype) == (torch.float32, "bfloat16")
    running = new_scheduler(model, max_batch_size=BATCH, max_context=512)
    got = replies(running, [request(prompt, GREEDY) for prompt in prompts])
    assert len(got) == 200
    assert {p: r.token_ids for p, r in zip(prompts, got, strict=True)} == expected
