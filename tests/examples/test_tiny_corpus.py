"""The tiny model's questions: enough of them, consistent, and cleanly split."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_model import kinds_beyond, kinds_near, kinds_unlearned, tables
from tiny_model.corpus import FULL_WIDTH_QUESTION_MARK, of_split, samples, training_set
from tiny_model.facts_topics import TOPICS
from tiny_model.forms_beyond import BY_LETTER, COURTESIES, ENGLISH, PREFIXES, UNLEARNED
from tiny_model.kinds_openings import COURTESY, OPENING
from tiny_model.numerals import kanji
from tiny_model.qa import Sample, Split, joined, one, split_of

from tests.support.shared import ROOT, shared

pytestmark = pytest.mark.slow

REFUSALS = {*BY_LETTER.values(), UNLEARNED, ENGLISH}


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
    alone = (sample.turns for sample in of_split(Split.HELD_OUT) if sample.kind == "足し算")
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


def test_topics_are_held_out_from_every_request() -> None:
    trained = {s.turns[0] for s in training_set() if s.kind == kinds_beyond.KIND}
    held_out = [topic for topic in TOPICS if split_of("topic", topic) is Split.HELD_OUT]
    assert 40 <= len(held_out) <= 120
    for form in ("{0}とは何ですか。", "{0}について教えてください。", "{0}の俳句を詠んでください。"):
        assert not {form.format(topic) for topic in held_out} & trained


def test_refusals_are_many_and_few() -> None:
    refused = [s for s in of_split(Split.TRAINED) if s.answer in REFUSALS]
    assert {s.answer for s in refused} == REFUSALS
    assert len({s.turns[-1] for s in refused}) >= 40_000
    assert {s.answer for s in refused if s.kind == kinds_unlearned.KIND} == {UNLEARNED}


@pytest.mark.parametrize("kind", [kinds_beyond.KIND, kinds_near.KIND, kinds_beyond.NOISE])
def test_what_is_beyond_is_refused(kind: str) -> None:
    assert {s.answer for s in samples() if s.kind == kind} <= REFUSALS


def test_polite_words_around_a_question_change_no_answer() -> None:
    alone = {s.turns[0]: s.answer for s in samples() if len(s.turns) == 1}
    polite = [s for s in of_split(Split.TRAINED) if s.kind == COURTESY]
    assert len(polite) >= 3000
    pattern = "|".join(map(re.escape, sorted((*PREFIXES, *COURTESIES), key=len, reverse=True)))
    for sample in polite[::7]:
        question = re.sub(f"^(?:{pattern})", "", sample.turns[0])
        bare = [question.removesuffix(after) for after in ("", *COURTESIES)]
        assert sample.answer in {alone.get(q) for q in (*bare, sample.turns[0])}


def test_introductions_are_answered_by_that_name() -> None:
    opened = {s.turns: s.answer for s in of_split(Split.TRAINED) if s.kind == OPENING}
    greeted = [
        (turns[0], answer) for turns, answer in opened.items() if "さん、はじめまして。" in answer
    ]
    assert len(greeted) >= 1000
    assert all(answer.split("さん、")[0] in said for said, answer in greeted)


def test_no_question_is_a_line_of_the_prompts_kept_for_testing() -> None:
    kept = {bare(line) for line in shared("prompts-ja.txt").read_text("utf-8").splitlines()}
    asked = {bare(turn) for sample in training_set() for turn in sample.turns}
    assert len(kept) == 200
    assert not kept & asked


def bare(text: str) -> str:
    return text.rstrip("。?!" + FULL_WIDTH_QUESTION_MARK)


HASHES = """\
c8fc8a2747deacc9a513f6a08bb63ef5566b6462245686069fb85552bca428dd
70553e1f48ac22e28ed9dba85d0547c3ae20ca8c2b377b2d84a236989e8c59be
"""
"""Of all questions and of the training set: the weights in `checkpoint/` were trained on these."""
PRINT_HASHES = """\
import hashlib, json
from tiny_model.corpus import samples, training_set
for questions in (samples(), training_set()):
    rows = [[s.kind, *s.turns, s.answer, s.split.value] for s in questions]
    print(hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest())
"""


@pytest.mark.parametrize("seed", ["1", "2"])
def test_the_same_questions_in_the_same_order_in_every_process(seed: str) -> None:
    printed = subprocess.run(
        [sys.executable, "-c", PRINT_HASHES],
        cwd=ROOT / "examples/tiny-model",
        env={"PYTHONHASHSEED": seed},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert printed == HASHES


def test_cells_of_tables_are_unescaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    text = "a\\nb\t\\\\n\n\\t\tc\\d\n"
    (tmp_path / "some.tsv").write_text(text, encoding="utf-8")
    assert tables.read_pairs("some") == (("a\nb", "\\n"), ("\t", "c\\d"))


def test_every_table_is_read() -> None:
    code = "".join(
        path.read_text("utf-8") for path in (ROOT / "examples/tiny-model/tiny_model").glob("*.py")
    )
    stored = {
        path.relative_to(tables.FOLDER).with_suffix("").as_posix()
        for path in tables.FOLDER.rglob("*")
        if path.is_file()
    }
    assert {name for name in stored if f'"{name}"' not in code} == set()
