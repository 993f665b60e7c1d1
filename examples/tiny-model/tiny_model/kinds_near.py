"""Requests that use the words of the model's own kinds and still go beyond them."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from . import facts_unlearned, facts_words
from . import forms_near as forms
from .facts_signs import EMOJI, NAMED_KANJI, RARE_READINGS, TRIPLED
from .facts_terms import FAMILY_NAMES, GIVEN_NAMES, LISTS, STORIES
from .facts_topics import LOOKALIKES
from .facts_world import COUNTRIES
from .forms_beyond import BY_LETTER
from .kinds_numbers import DAYS, MONTHS, OLD_MONTHS
from .qa import Sample, Split, digest, one, split_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KIND = "近い依頼"
SEASONS = ("春", "夏", "秋", "冬", "正月", "梅雨", "今日", "明日", "週末")


def _signs() -> list[str]:
    flags = [country.flag for country in COUNTRIES]
    return [*(sign for _, sign in EMOJI), *facts_unlearned.SIGNS, *flags[::2]]


def _kanji() -> list[str]:
    known = [*(k for pair in TRIPLED for k in pair), *(k for k, _ in RARE_READINGS)]
    alike = [part for pair in LOOKALIKES for part in pair.split("と") if len(part) == 1]
    return [*known, *(k for _, k in NAMED_KANJI), *facts_unlearned.RARE, *alike]


def _words() -> list[str]:
    readings = [part for pair in facts_words.READINGS for part in pair]
    opposites = [word for pair in facts_words.OPPOSITES for word in pair]
    return [*readings, *opposites, *(noun for noun, _ in facts_words.COUNTERS)]


def _sentences() -> list[str]:
    return [f"{verb.before}{verb.plain}。" for verb in facts_words.VERBS]


def _people() -> list[str]:
    return [f + g for f in FAMILY_NAMES for g in GIVEN_NAMES if digest("person", f, g) % 4 == 0]


def _asked(
    texts: Sequence[tuple[str, str]], words: Sequence[str], per_mille: int
) -> Iterator[Sample]:
    """The forms of a share of the words; forms are held out, and some words."""
    words = list(dict.fromkeys(words))
    trained = [word for word in words if split_of("near", word) is Split.TRAINED]
    for text, letter in texts:
        form_split = split_of("near form", text, percent=8)
        for word in words:
            if digest("near", text, word) % 1000 >= per_mille:
                continue
            rng = Random(digest("near places", text, word))
            request = text.format(word, rng.choice(trained), n=rng.choice("三四五35"))
            split = form_split if form_split is Split.HELD_OUT else split_of("near", word)
            yield one(KIND, request, BY_LETTER[letter], split)


def _numbers() -> Iterator[Sample]:
    for text, letter in forms.NUMBER_FORMS:
        form_split = split_of("near form", text, percent=8)
        for index in range(60):
            rng = Random(digest("near numbers", text, index))
            a, b = rng.randint(1, 120), rng.randint(1, 120)
            request = text.format(a=a, b=b, n=rng.choice("三四五35"))
            split = form_split if form_split is Split.HELD_OUT else split_of("near", a, b)
            yield one(KIND, request, BY_LETTER[letter], split)


def near() -> Iterator[Sample]:
    """All of them."""
    yield from _asked(forms.SIGN_FORMS, _signs(), 350)
    yield from _asked(forms.KANJI_FORMS, _kanji(), 250)
    yield from _asked(forms.COUNTRY_FORMS, [country.name for country in COUNTRIES], 450)
    yield from _asked(forms.WORD_FORMS, _words(), 90)
    yield from _asked(forms.SENTENCE_FORMS, _sentences(), 1000)
    calendar = (*DAYS, *MONTHS, *OLD_MONTHS, *SEASONS)
    yield from _asked(forms.CALENDAR_FORMS, calendar, 900)
    yield from _asked(forms.TALE_FORMS, [title for title, _ in (*LISTS, *STORIES)], 1000)
    yield from _asked(forms.NAME_FORMS, _people(), 500)
    yield from _numbers()
