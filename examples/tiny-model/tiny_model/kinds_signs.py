"""Kinds whose answers the tokenizer spells in bytes: emoji, flags, rare kanji, both at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .facts_signs import EMOJI, NAMED_KANJI, RARE_READINGS, TRIPLED
from .facts_world import COUNTRIES
from .qa import Sample, one, phrased, pick, split_of
from .tables import read_pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

EMOJI_PHRASINGS = read_pairs("signs/emoji_phrasings")
FLAG_PHRASINGS = read_pairs("signs/flag_phrasings")
TRIPLED_PHRASINGS = read_pairs("signs/tripled_phrasings")
RARE_READING_PHRASINGS = read_pairs("signs/rare_reading_phrasings")
NAMED_PHRASINGS = read_pairs("signs/named_phrasings")
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
