"""Kinds of two turns: the last answer depends on what was said before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .facts_signs import EMOJI
from .facts_terms import FAMILY_NAMES, GIVEN_NAMES
from .facts_words import OPPOSITES, READINGS
from .facts_world import COUNTRIES
from .kinds_numbers import DAYS, difference_split, sum_split
from .qa import Sample, Split, digest, pick, split_of

if TYPE_CHECKING:
    from collections.abc import Iterator

KIND = "二回の対話"

NAME_PHRASINGS = (
    ("私の名前は{0}です。", "{0}さん、はじめまして。"),
    ("私は{0}といいます。", "{0}さんですね。よろしくお願いします。"),
    ("{0}と申します。", "{0}さん、よろしくお願いします。"),
)
NAME_QUESTIONS = (
    ("私の名前は何ですか。", "{0}さんです。"),
    ("私の名前を覚えていますか。", "はい、{0}さんです。"),
    ("私は誰ですか。", "あなたは{0}さんです。"),
)
FAVOURITE_QUESTIONS = (
    ("私の好きなものは何ですか。", "{0}です。"),
    ("私が好きなものを覚えていますか。", "はい、{0}です。"),
    ("それを絵文字で書いてください。", "{1}"),
)
COUNTRY_QUESTIONS = (
    ("その国の国旗の絵文字は?", "{1}です。"),
    ("その国の旗も書いてください。", "{1}"),
)


def _names() -> Iterator[Sample]:
    for family in FAMILY_NAMES:
        for given in GIVEN_NAMES:
            name = family + given
            said, reply = pick(NAME_PHRASINGS, "name", name)
            question, answer = pick(NAME_QUESTIONS, "name question", name)
            turns = (said.format(name), reply.format(name), question)
            yield Sample(KIND, turns, answer.format(name), split_of("name", name))


def _favourites() -> Iterator[Sample]:
    for word, sign in EMOJI:
        for question, answer in FAVOURITE_QUESTIONS:
            turns = (f"私は{word}が好きです。", f"{word}はいいですね。", question)
            yield Sample(KIND, turns, answer.format(word, sign), split_of("liked", word, question))


def _countries() -> Iterator[Sample]:
    for country in COUNTRIES:
        first = (
            f"{country.name}の首都はどこですか。",
            f"{country.name}の首都は{country.capital}です。",
        )
        for question, answer in COUNTRY_QUESTIONS:
            split = split_of("flag of", country.code, question)
            yield Sample(KIND, (*first, question), answer.format(country.name, country.flag), split)
        for i in range(6):
            other = COUNTRIES[digest("other", country.code, i) % len(COUNTRIES)]
            question, answer = (
                f"では、{other.name}は?",
                f"{other.name}の首都は{other.capital}です。",
            )
            split = split_of("other capital", country.code, other.code)
            yield Sample(KIND, (*first, question), answer, split)


def _words() -> Iterator[Sample]:
    """「では、X は?」 takes its meaning from the first question: reading or opposite."""
    for index, (word, opposite) in enumerate(OPPOSITES):
        first = (f"「{word}」の反対は?", f"「{opposite}」です。")
        for i in range(3):
            asked, answer = OPPOSITES[
                (index + 1 + digest("opposite", word, i) % 90) % len(OPPOSITES)
            ]
            split = split_of("other opposite", word, asked)
            yield Sample(KIND, (*first, f"では、「{asked}」は?"), f"「{answer}」です。", split)
    for index, (word, reading) in enumerate(READINGS):
        first = (f"「{word}」の読み方は?", f"「{reading}」です。")
        for i in range(3):
            asked, answer = READINGS[(index + 1 + digest("reading", word, i) % 90) % len(READINGS)]
            split = split_of("other reading", word, asked)
            yield Sample(KIND, (*first, f"では、「{asked}」は?"), f"「{answer}」です。", split)


def _days() -> Iterator[Sample]:
    for index, day in enumerate(DAYS):
        for other in DAYS:
            first = (f"今日は{day}です。", f"今日は{day}ですね。")
            asked = {
                "明日は何曜日ですか。": 1,
                "昨日は何曜日でしたか。": -1,
                "あさっては何曜日ですか。": 2,
            }
            for question, step in asked.items():
                answer = f"{DAYS[(index + step) % 7]}です。"
                yield Sample(KIND, (*first, question), answer, Split.TRAINED)
            held = split_of("weekday chat", day, other)
            turns = (
                f"{day}は休みで、{other}は仕事です。",
                "分かりました。",
                "休みは何曜日ですか。",
            )
            yield Sample(KIND, turns, f"{day}です。", held)


def _chains() -> Iterator[Sample]:
    """A sum, then one more number added to or taken from its result."""
    for a in range(50):
        for b in range(50):
            if sum_split(a, b) is Split.HELD_OUT:
                continue
            c, d = a + b, 1 + digest("chain", a, b) % 20
            first = (f"{a}+{b}は?", f"{c}です。")
            if c >= d and digest("minus", a, b) % 3 == 0:
                turns = (*first, f"それから{d}を引くと?")
                yield Sample(KIND, turns, f"{c - d}です。", difference_split(c, d))
            else:
                turns = (*first, f"それに{d}を足すと?")
                yield Sample(KIND, turns, f"{c + d}です。", sum_split(c, d))


def follow_ups() -> Iterator[Sample]:
    """All of them."""
    yield from _names()
    yield from _favourites()
    yield from _countries()
    yield from _words()
    yield from _days()
    yield from _chains()
