"""The tiny model's tokenizer: llm-jp v3.0's pipeline around pieces of our own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import tokenizer as built
from tiny_model import unigram
from tiny_model.encoding import encoded, tokenizer_of
from tiny_model.qa import SYSTEM, Sample, Split
from tokenizers import Tokenizer

from tests.support.shared import ROOT, shared

CHECKPOINT = ROOT / "examples/tiny-model/checkpoint"
STORED = json.loads((CHECKPOINT / "tokenizer.json").read_text(encoding="utf-8"))
TOKENIZER = Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
SIGNS = "🍣🇯🇵👨‍👩‍👧‍👦❤️𠮷龘彁麤鬱"


def _original(name: str) -> Any:
    folder = shared("llm-jp-tokenizer-v3.0")
    return json.loads((folder / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "part",
    ["normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens", "truncation"],
)
def test_pipeline_equals_the_original(part: str) -> None:
    assert STORED[part] == _original("tokenizer.json")[part]


def test_model_equals_the_original_but_for_the_pieces() -> None:
    original = _original("tokenizer.json")["model"]
    assert {k: v for k, v in STORED["model"].items() if k != "vocab"} == {
        k: v for k, v in original.items() if k != "vocab"
    }
    assert STORED["model"]["vocab"][:264] == original["vocab"][:264]


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
def test_settings_equal_the_original(name: str) -> None:
    assert json.loads((CHECKPOINT / name).read_text(encoding="utf-8")) == _original(name)


def test_stored_settings_are_what_the_code_writes(tmp_path: Any) -> None:
    built.write(TOKENIZER, tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        assert (tmp_path / name).read_bytes() == (CHECKPOINT / name).read_bytes()


def test_about_four_thousand_pieces_each_once() -> None:
    pieces = [piece for piece, _ in STORED["model"]["vocab"]]
    assert 3968 < len(pieces) < 4096
    assert len(set(pieces)) == len(pieces) == TOKENIZER.get_vocab_size()


def test_numerals_are_single_pieces() -> None:
    numerals = set("0123456789〇一二三四五六七八九十百千")
    pieces = [piece for piece, _ in STORED["model"]["vocab"][264:]]
    assert numerals <= set(pieces)
    assert not [piece for piece in pieces if len(piece) > 1 and numerals & set(piece)]


@pytest.mark.parametrize("sign", [*SIGNS, "\n", "\t"])
def test_spelled_in_bytes(sign: str) -> None:
    ids = TOKENIZER.encode(f"あ{sign}", add_special_tokens=False).ids[-len(sign.encode()) :]
    assert ids == [8 + byte for byte in sign.encode()]


# A lone NUL or U+2581 is the pipeline's own blind spot, the original's too.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0▁"))


@given(TEXTS | st.text("あ漢🍣𠮷a 1\n" + SIGNS))
def test_round_trip(text: str) -> None:
    ids = TOKENIZER.encode(text).ids
    assert ids[0] == 1
    assert TOKENIZER.decode(ids) == text


@given(st.text("あ漢🍣𠮷a 1\n" + SIGNS, min_size=1))
def test_transformers_gives_the_same_ids(text: str) -> None:
    assert tokenizer_of_checkpoint()(text)["input_ids"] == TOKENIZER.encode(text).ids


_LOADED: list[Any] = []


def tokenizer_of_checkpoint() -> Any:
    if not _LOADED:
        _LOADED.append(tokenizer_of(CHECKPOINT))
    return _LOADED[0]


def test_prompt_and_reply_are_the_chat_templates() -> None:
    sample = Sample("a", ("やあ", "はい", "では?"), "🍣", Split.TRAINED)
    (entry,) = encoded(tokenizer_of_checkpoint(), [sample])
    prompt = (
        f"<s>{SYSTEM}\n\n### 指示:\nやあ\n\n### 応答:\nはい</s>\n\n### 指示:\nでは?\n\n### 応答:\n"
    )
    assert entry.prompt == tuple(TOKENIZER.encode(prompt, add_special_tokens=False).ids)
    assert entry.prompt[:2] == (1, TOKENIZER.token_to_id("▁"))
    assert entry.reply == (*(8 + byte for byte in "🍣".encode()), 2)


def test_learned_pieces_spell_every_word_and_keep_to_the_number() -> None:
    words = {"首都は": 9.0, "首都を": 4.0, "東京です": 5.0, "京都です": 1.0}
    letters = set("".join(words))
    pieces = unigram.learned(words, len(letters) + 2)
    assert len(pieces) <= len(letters) + 2
    assert letters <= set(pieces)
    assert "首都は" in pieces
    for word in words:
        assert "".join(unigram.best_cut(word, pieces)[1]) == word


@given(st.text("abc", min_size=1, max_size=8))
def test_best_cut_is_the_best_of_all_cuts(word: str) -> None:
    scores = {"a": -1.0, "b": -1.5, "c": -2.0, "ab": -2.0, "bc": -3.1, "abc": -3.4, "ca": -2.5}

    def best(rest: str) -> float:
        cuts = [scores[rest[:n]] + best(rest[n:]) for n in range(1, 4) if rest[:n] in scores]
        return max(cuts) if rest else 0.0

    score, pieces = unigram.best_cut(word, scores)
    assert "".join(pieces) == word
    assert score == pytest.approx(best(word))
