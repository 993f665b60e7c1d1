"""The shipped weights: their shape, and that they answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tiny_model import checkpoint, kinds_beyond, kinds_near
from tiny_model.corpus import samples
from tiny_model.decoding import greedy, penalised
from tiny_model.encoding import encoded, tokenizer_of
from tiny_model.forms_beyond import UNLEARNED
from tiny_model.qa import Sample, Split
from tiny_model.scores import evenly_drawn, measured

from tests.support.shared import ROOT, shared

pytestmark = pytest.mark.slow

CHECKPOINT = ROOT / "examples/tiny-model/checkpoint"
PER_KIND = 12
SPANS = ((0x4E00, 0x9FA0), (0x1F300, 0x1F650), (0x30A1, 0x30F7), (0xFF71, 0xFF9E))
"""Kanji, emoji, katakana wide and half-width."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy machine take ten times as long as one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


@pytest.mark.slow
@pytest.mark.parametrize(("split", "floor"), [(Split.TRAINED, 0.99), (Split.HELD_OUT, 0.95)])
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
        (
            ("自然言語処理とは何ですか。",),
            "自然言語処理とは、人が日常で使う言葉をコンピュータに扱わせる技術です。翻訳、要約、対話などに使われます。",
        ),
        (("12+34は?", "46です。", "それに5を足すと?"), "51です。"),
        (
            (
                "日本の首都はどこですか。",
                "日本の首都は東京です。",
                "では、フランスの首都はどこですか。",
            ),
            "フランスの首都はパリです。",
        ),
        (("シンガポールの首都はどこですか。",), UNLEARNED),
        (("私の名前は田中太郎です。",), "田中太郎さん、はじめまして。"),
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


def replies(model: Any, tokenizer: Any, chats: list[list[dict[str, str]]]) -> list[bytes]:
    """The greedy replies' UTF-8, put together from the pieces, not repaired by a decoder."""
    prompts = [
        tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        for chat in chats
    ]
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    spelled = [bytes([i - 8]) if 8 <= i < 264 else p.encode() for i, p in enumerate(pieces)]
    return [
        b"".join(spelled[i] for i in reply)
        for reply in greedy(model, prompts, penalty=1.0, batch=64)
    ]


def test_out_of_scope_questions_get_valid_text(model: Any, tokenizer: Any) -> None:
    beyond = [s for s in samples() if s.kind in {kinds_beyond.KIND, kinds_near.KIND}]
    asked = evenly_drawn([*beyond, *unheard_of()], Split.HELD_OUT, 60)
    assert len(asked) == 180
    for reply in replies(model, tokenizer, [sample.messages for sample in asked]):
        assert reply.decode()


def unheard_of() -> Iterator[Sample]:
    """Requests whose topics and forms are in no table."""
    rng = Random(5)
    ways = (
        "{}を英雄譚にして",
        "{}の値打ちを鑑定してほしい",
        "{}を{}風に仕立て直してくれますか。",
        "{}!{}!",
    )
    for _ in range(60):
        words = ["".join(chr(rng.randrange(*span)) for _ in range(3)) for span in SPANS * 2]
        question = rng.choice(ways).format(*rng.sample(words, 2))
        yield Sample("未知", (question,), "", Split.HELD_OUT)


def test_every_prompt_kept_for_testing_gets_valid_text(model: Any, tokenizer: Any) -> None:
    lines = shared("prompts-ja.txt").read_text("utf-8").splitlines()
    chats = [[{"role": "user", "content": line}] for line in lines]
    assert len(chats) == 200
    for reply in replies(model, tokenizer, chats):
        assert reply.decode()


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
