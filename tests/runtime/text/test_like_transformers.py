"""Ids and text of every kind of tokenizer, held against what transformers makes of its files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmjp_runtime.text.tokenizer import TextTokenizer
from tests.runtime.text import tokenizer_kinds
from tests.runtime.text.corpus import CORPUS
from tests.runtime.text.texts import texts
from tests.runtime.text.tokenizer_kinds import FLAGGED, KINDS

REAL = "llm-jp v3.0"
"""The released files, not made here."""
ADDED = ("<s>", "</s>", "<|eot_id|>", "<|begin_of_text|>", *(t.content for t in FLAGGED))


@dataclass(frozen=True)
class Pair:
    """One tokenizer, by us and by transformers."""

    ours: TextTokenizer
    hf: Any


@pytest.fixture(scope="module", params=[REAL, *KINDS])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    transformers = pytest.importorskip("transformers")
    if request.param == REAL:
        return Pair(request.getfixturevalue("real"), request.getfixturevalue("hf"))
    folder = tokenizer_kinds.write(tmp_path_factory.mktemp("kind"), request.param)
    return Pair(TextTokenizer.load(folder), transformers.AutoTokenizer.from_pretrained(folder))


def test_the_corpus_is_large() -> None:
    assert len(CORPUS) >= 250


def test_prompt_ids(pair: Pair) -> None:
    wrong = [text for text in CORPUS if pair.ours.encode_prompt(text) != pair.hf(text)["input_ids"]]
    assert wrong == []


def test_whole_texts(pair: Pair) -> None:
    wrong = []
    for text in CORPUS:
        ids = pair.hf(text)["input_ids"]
        if pair.ours.decode(ids) != pair.hf.decode(ids, skip_special_tokens=True):
            wrong.append(text)
    assert wrong == []


def test_a_reply_is_the_whole_text_less_the_prompt(pair: Pair) -> None:
    """Wherever ids are divided between characters, and given one at a time."""
    wrong = []
    for text in CORPUS:
        ids = pair.hf(text)["input_ids"]
        whole = pair.hf.decode(ids, skip_special_tokens=True)
        for cut in {1, 2, len(ids) // 2, len(ids) - 1, len(ids)} & {*range(len(ids) + 1)}:
            prompt = pair.hf.decode(ids[:cut], skip_special_tokens=True)
            if not whole.startswith(prompt) or prompt.endswith("\ufffd"):
                continue  # the cut is inside a character
            detokenizer = pair.ours.create_detokenizer(ids[:cut])
            if prompt + "".join(detokenizer.feed([i]) for i in ids[cut:]) != whole:
                wrong.append((text, cut))
    assert wrong == []


def spell_with_added_tokens() -> st.SearchStrategy[str]:
    pieces = st.one_of(st.sampled_from(ADDED), st.sampled_from([" ", "\n", "a", "日"]), texts)
    return st.lists(pieces, max_size=8).map("".join)


def test_added_tokens_in_prompts(pair: Pair) -> None:
    """Ids and text, whatever their flags and neighbours; a bos that is written is the only one."""
    bos = pair.hf.bos_token
    puts_bos = pair.hf("")["input_ids"] == [pair.hf.bos_token_id]

    @given(spell_with_added_tokens())
    @settings(max_examples=100, deadline=None)
    def check(text: str) -> None:
        expected = pair.hf(text)["input_ids"]
        if puts_bos and text.startswith(bos):
            expected = expected[1:]
        assert pair.ours.encode_prompt(text) == expected
        decoded = pair.hf.decode(expected, skip_special_tokens=True)
        assert pair.ours.decode(expected) == decoded

    check()


@pytest.mark.parametrize(
    ("prompt", "reply"),
    [("I like", " the sea."), ("def f(x):\n", "    return x + 1"), ("東京", "です。"), ("a", "b")],
)
def test_a_reply_keeps_its_spaces(pair: Pair, prompt: str, reply: str) -> None:
    prompt_ids = pair.ours.encode_prompt(prompt)
    ids = pair.ours.encode_prompt(prompt + reply)
    if ids[: len(prompt_ids)] == prompt_ids and pair.ours.decode(ids) == prompt + reply:
        assert pair.ours.create_detokenizer(prompt_ids).feed(ids[len(prompt_ids) :]) == reply


def test_the_lower_bound_of_tokens_holds(pair: Pair) -> None:
    for text in (*CORPUS, "".join(CORPUS), "  ".join(ADDED)):
        assert pair.ours.estimate_min_tokens(text) <= len(pair.ours.encode_prompt(text))


def test_every_cut_of_bytes(pair: Pair) -> None:
    """A character that the prompt began is finished by the reply."""
    ids = pair.ours.encode_prompt("a🍣b")
    whole = pair.ours.decode(ids)
    for cut in range(len(ids) + 1):
        reply = pair.ours.create_detokenizer(ids[:cut]).feed(ids[cut:])
        assert pair.ours.decode(ids[:cut]) + reply == whole
