"""The tiny model's questions: enough of them, consistent, and cleanly split."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tiny_model.corpus import of_split, samples, training_set
from tiny_model.numerals import kanji
from tiny_model.qa import Sample, Split, joined, one

from tests.support.shared import ROOT


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, "〇"),
        (1, "一"),
        (10, "十"),
        (11, "十一"),
        (35, "三十五"),
        (100, "百"),
        (2026, "二千二十六"),
    ],
)
def test_kanji_numerals(number: int, written: str) -> None:
    assert kanji(number) == written


@pytest.mark.parametrize("number", [-1, 10_000])
def test_kanji_numerals_refuse_what_they_cannot_write(number: int) -> None:
    with pytest.raises(ValueError, match=str(number)):
        kanji(number)


def test_every_kind_is_trained_and_held_out() -> None:
    kinds = {sample.kind for sample in samples()}
    assert len(kinds) >= 10
    for split in Split:
        assert {sample.kind for sample in of_split(split)} == kinds


def test_nothing_held_out_is_trained() -> None:
    held_out = {sample.turns for sample in of_split(Split.HELD_OUT)}
    assert len(held_out) >= 3000
    assert not held_out & {sample.turns for sample in training_set()}


def test_a_held_out_sum_is_held_out_in_either_order_and_notation() -> None:
    trained = {sample.turns[0] for sample in training_set() if len(sample.turns) == 1}
    alone = (sample.turns for sample in of_split(Split.HELD_OUT) if len(sample.turns) == 1)
    held_out = [question for (question,) in alone if question.endswith("は?")]
    sums = [q.removesuffix("は?").split("+") for q in held_out if "+" in q]
    assert len(sums) >= 100
    for a, b in sums:
        assert f"{b}+{a}は?" not in trained
        assert f"{b}たす{a}はいくつですか。" not in trained
        if 0 < int(a) <= 50 and 0 < int(b) <= 50:
            assert f"{kanji(int(a))}たす{kanji(int(b))}はいくつですか。" not in trained


def test_answers_of_all_lengths() -> None:
    trained = of_split(Split.TRAINED)
    assert sum(len(sample.answer) >= 40 for sample in trained) >= 200
    assert sum("\n" in sample.answer for sample in trained) >= 200
    assert sum(" " in sample.answer for sample in trained) >= 200
    assert sum(len(sample.turns) == 3 for sample in trained) >= 1000


def test_contradicting_answers_are_refused() -> None:
    asked = [one("a", "問い", answer, Split.TRAINED) for answer in ("はい", "いいえ")]
    with pytest.raises(ValueError, match="two answers"):
        joined([asked])


def test_a_question_trained_anywhere_is_trained() -> None:
    asked = [one("a", "問い", "はい", split) for split in (Split.HELD_OUT, Split.TRAINED)]
    assert [sample.split for sample in joined([asked])] == [Split.TRAINED]


def test_messages_begin_with_the_system_turn_and_end_with_the_question() -> None:
    sample = Sample("a", ("一", "二", "三"), "四", Split.TRAINED)
    roles = [message["role"] for message in sample.messages]
    assert roles == ["system", "user", "assistant", "user"]
    assert sample.messages[-1]["content"] == "三"


def test_the_same_questions_in_the_same_order_in_every_process() -> None:
    program = "import hashlib; from tiny_model.corpus import training_set\n"
    program += "print(hashlib.sha256(repr(training_set()).encode()).hexdigest())"
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT / "examples/tiny-model",
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
