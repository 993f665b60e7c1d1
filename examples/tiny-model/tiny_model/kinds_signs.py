"""Kinds whose answers the tokenizer spells in bytes: emoji, flags, rare kanji, both at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .facts_signs import EMOJI, NAMED_KANJI, RARE_READINGS, TRIPLED
from .facts_world import COUNTRIES
from .qa import Sample, one, phrased, pick, split_of

if TYPE_CHECKING:
    from collections.abc import Iterator

EMOJI_PHRASINGS = (
    ("{0}の絵文字は?", "{1}です。"),
    ("{0}の絵文字を教えてください。", "{0}の絵文字は{1}です。"),
    ("{0}を絵文字で書いてください。", "{1}"),
    ("{0}を表す絵文字は何ですか。", "{1}です。"),
    ("{1}は何の絵文字ですか。", "{0}の絵文字です。"),
    ("{1}は何を表しますか。", "{0}を表します。"),
    ("{0}を絵文字にしてください。", "{1}"),
    ("{0}の絵文字はどれですか。", "{1}です。"),
    ("{1}はどんな意味ですか。", "{0}を表します。"),
)
FLAG_PHRASINGS = (
    ("{0}の国旗の絵文字は?", "{1}です。"),
    ("{0}の旗を絵文字で書いてください。", "{1}"),
    ("{0}の国旗を教えてください。", "{0}の国旗は{1}です。"),
    ("{1}はどの国の旗ですか。", "{0}の旗です。"),
    ("{0}の国旗を絵文字で書いてください。", "{1}"),
    ("{0}の旗の絵文字を教えてください。", "{1}です。"),
    ("{1}はどこの国旗ですか。", "{0}の国旗です。"),
)
TRIPLED_PHRASINGS = (
    ("「{0}」を三つ書く漢字は何ですか。", "「{1}」です。"),
    ("「{0}」が三つ集まった漢字を書いてください。", "{1}"),
    ("「{0}」を三つ重ねると何という漢字になりますか。", "「{1}」になります。"),
    ("「{1}」は何が三つの漢字ですか。", "「{0}」が三つです。"),
    ("「{1}」は何を三つ書きますか。", "「{0}」を三つ書きます。"),
    ("三つの「{0}」でできた漢字は?", "「{1}」です。"),
    ("「{0}」が三つの字を教えてください。", "「{1}」です。"),
)
RARE_READING_PHRASINGS = (
    ("「{0}」はどう読みますか。", "「{1}」と読みます。"),
    ("「{0}」という漢字の読みは?", "「{1}」です。"),
    ("珍しい漢字「{0}」の読みを教えてください。", "「{0}」は「{1}」と読みます。"),
    ("漢字「{0}」をひらがなで書いてください。", "{1}"),
)
NAMED_PHRASINGS = (
    ("「{0}」の漢字を書いてください。", "{1}"),
    ("{0}の字を書いてください。", "「{1}」です。"),
    ("{0}の漢字はどれですか。", "「{1}」です。"),
    ("漢字で{0}と呼ばれる字は?", "「{1}」です。"),
    ("{0}という字を見せてください。", "{1}"),
)
PAIR_PHRASINGS = (
    ("「{0}」を三つ書く漢字と、{2}の絵文字を並べてください。", "漢字は「{1}」、絵文字は{3}です。"),
    ("{2}の絵文字と、「{0}」を三つ書く漢字を教えてください。", "絵文字は{3}、漢字は「{1}」です。"),
    ("「{0}」が三つの漢字のあとに{2}の絵文字を付けてください。", "{1}{3}"),
)


def emoji() -> Iterator[Sample]:
    """Words and their emoji both ways, flags too."""
    yield from phrased("絵文字", EMOJI, EMOJI_PHRASINGS)
    yield from phrased("絵文字", [(c.name, c.flag) for c in COUNTRIES], FLAG_PHRASINGS)


def rare_kanji() -> Iterator[Sample]:
    """Kanji made of three equal ones, and kanji few fonts had for long."""
    yield from phrased("珍しい漢字", TRIPLED, TRIPLED_PHRASINGS)
    yield from phrased("珍しい漢字", RARE_READINGS, RARE_READING_PHRASINGS)
    yield from phrased("珍しい漢字", NAMED_KANJI, NAMED_PHRASINGS)


def kanji_with_emoji() -> Iterator[Sample]:
    """A rare kanji and an emoji in one answer; combinations are held out."""
    for base, tripled in TRIPLED:
        for word, sign in EMOJI:
            fields = (base, tripled, word, sign)
            if word == base or split_of("asked", *fields, percent=40).value == "trained":
                continue
            question, answer = pick(PAIR_PHRASINGS, "pair", *fields)
            split = split_of("pair", *fields)
            yield one("漢字と絵文字", question.format(*fields), answer.format(*fields), split)
    for base, tripled in TRIPLED:
        same = [sign for word, sign in EMOJI if word == base]
        for sign in same:
            fields = (base, tripled, base, sign)
            yield from phrased("漢字と絵文字", [fields], PAIR_PHRASINGS)
