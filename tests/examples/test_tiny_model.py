"""The shipped weights: their shape, and that they answer."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tiny_model import checkpoint
from tiny_model.corpus import samples
from tiny_model.decoding import greedy, penalised
from tiny_model.encoding import Encoded, encoded, tokenizer_of
from tiny_model.qa import Sample, Split
from tiny_model.scores import evenly_drawn, measured
from tiny_model.training import Recipe, train

from tests.support.shared import ROOT

CHECKPOINT = ROOT / "examples/tiny-model/checkpoint"
PER_KIND = 12


@pytest.fixture(scope="module")
def model() -> Any:
    return checkpoint.load(CHECKPOINT)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tokenizer_of(CHECKPOINT)


def test_small_enough_for_a_repository(model: Any) -> None:
    assert (CHECKPOINT / "model.safetensors").stat().st_size <= 12_000_000
    assert sum(parameter.numel() for parameter in model.parameters()) <= 6_000_000


def test_stored_in_bfloat16_under_the_usual_names() -> None:
    with safe_open(CHECKPOINT / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
        tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    assert {tensor.get_dtype() for tensor in tensors.values()} == {"BF16"}
    layers = range(checkpoint.CONFIG["num_hidden_layers"])
    assert {f"model.layers.{i}.self_attn.q_proj.weight" for i in layers} <= tensors.keys()
    assert tensors["lm_head.weight"].get_shape() == [4096, 256]
    assert tensors["model.layers.0.self_attn.k_proj.weight"].get_shape() == [128, 256]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", checkpoint.CONFIG),
        ("generation_config.json", checkpoint.GENERATION_CONFIG),
    ],
)
def test_settings_are_what_the_code_writes(name: str, content: dict[str, Any]) -> None:
    assert json.loads((CHECKPOINT / name).read_text(encoding="utf-8")) == content


def test_shape_can_be_split_in_four_and_staged_in_two() -> None:
    config = checkpoint.CONFIG
    assert config["num_attention_heads"] % 4 == config["num_hidden_layers"] % 2 == 0
    assert config["intermediate_size"] % (4 * 16) == config["vocab_size"] % 128 == 0
    assert config["num_attention_heads"] == 2 * config["num_key_value_heads"]


def test_the_files_weights_are_the_models(model: Any) -> None:
    assert model.config.rope_parameters["rope_theta"] == 10000
    assert model.dtype == torch.float32
    with safe_open(CHECKPOINT / "model.safetensors", framework="pt") as file:
        head = file.get_tensor("lm_head.weight")
    assert torch.equal(model.lm_head.weight, head.float())
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


@pytest.mark.parametrize(("split", "floor"), [(Split.TRAINED, 0.99), (Split.HELD_OUT, 0.90)])
def test_answers_exactly(model: Any, tokenizer: Any, split: Split, floor: float) -> None:
    report = measured(model, tokenizer, evenly_drawn(samples(), split, PER_KIND))
    assert report.total(split).asked >= 240
    assert report.total(split).share >= floor, report.wrong


@pytest.mark.parametrize("penalty", [1.0, 1.05])
@pytest.mark.parametrize(
    ("turns", "answer"),
    [
        (
            ("大規模言語モデルとは何ですか。",),
            "大規模言語モデルとは、大量の文章から次に来る語を学んだ、とても大きなニューラルネットワークです。",
        ),
        (("12+34は?", "46です。", "それに5を足すと?"), "51です。"),
        (
            ("「龍」を三つ書く漢字と、龍の絵文字を並べてください。",),
            "漢字は「龘」、絵文字は🐉です。",
        ),
    ],
)
def test_demo_questions(
    model: Any, tokenizer: Any, turns: tuple[str, ...], answer: str, penalty: float
) -> None:
    asked = [Sample("demo", turns, answer, Split.TRAINED)]
    assert measured(model, tokenizer, asked, penalty=penalty).wrong == []


def test_decoding_in_batches_equals_transformers_generate(model: Any, tokenizer: Any) -> None:
    asked = evenly_drawn(samples(), Split.TRAINED, 1)
    prompts = [entry.prompt for entry in encoded(tokenizer, asked)]
    replies = greedy(model, prompts, penalty=1.05, batch=8)
    for prompt, reply in list(zip(prompts, replies, strict=True))[:6]:
        ids = torch.tensor([prompt])
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=128,
            do_sample=False,
            repetition_penalty=1.05,
            pad_token_id=4,
        )
        assert out[0, len(prompt) :].tolist() == [*reply, 2]


def test_penalty_lowers_what_was_seen_and_nothing_else() -> None:
    logits = torch.tensor([[2.0, -2.0, 1.0]])
    lowered = penalised(logits, torch.tensor([[0, 1, 0]]), 2.0)
    assert lowered.tolist() == [[1.0, -4.0, 1.0]]


def test_training_learns_the_reply_and_only_the_reply() -> None:
    data = [Encoded((1, 300 + i, 18), (400 + i, 500, 2)) for i in range(4)]
    recipe = Recipe(steps=40, batch=4, warmup=5, attention_dropout=0.0)
    model = checkpoint.new_model(recipe.seed)
    losses: list[float] = []
    train(model, data, recipe, lambda _, loss: losses.append(loss))
    assert len(losses) == 2
    assert losses[-1] < 0.1 < math.log(4096)
    assert greedy(model, [entry.prompt for entry in data], penalty=1.0, batch=2) == [
        list(entry.reply[:-1]) for entry in data
    ]
