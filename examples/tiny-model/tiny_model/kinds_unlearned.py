"""Questions of the model's own kinds about facts it never learned: it says so."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from . import facts_unlearned as facts
from . import facts_words
from .facts_signs import EMOJI, NAMED_KANJI, RARE_READINGS, TRIPLED
from .facts_topics import TOPICS
from .facts_world import COUNTRIES
from .facts_world import PREFECTURES as KNOWN_PREFECTURES
from .forms_beyond import UNLEARNED
from .kinds_numbers import DIFFERENCE_PHRASINGS, PRODUCT_PHRASINGS, SUM_PHRASINGS
from .kinds_signs import (
    EMOJI_PHRASINGS,
    FLAG_PHRASINGS,
    RARE_READING_PHRASINGS,
    TRIPLED_PHRASINGS,
)
from .kinds_words import (
    CAPITAL_PHRASINGS,
    COUNTER_PHRASINGS,
    OPPOSITE_PHRASINGS,
    PREFECTURE_PHRASINGS,
    READING_PHRASINGS,
    VERB_FORMS,
)
from .numerals import kanji
from .qa import Sample, digest, one, pick, split_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .qa import Phrasing

KIND = "習っていない事実"


def _forward(phrasings: Sequence[Phrasing]) -> list[str]:
    """The questions that name the first field and ask for the second."""
    return [question for question, _ in phrasings if "{0}" in question]


def _backward(phrasings: Sequence[Phrasing]) -> list[str]:
    return [question.replace("{1}", "{0}") for question, _ in phrasings if "{1}" in question]


def invented_country(index: int) -> str:
    """A katakana name that no country has."""
    rng = Random(digest("country", index))
    syllables = "".join(rng.choices(facts.SYLLABLES, k=rng.randint(1, 4)))
    return syllables + rng.choice(facts.ENDINGS)


def _asked(
    questions: Sequence[str], words: Iterable[str], known: Iterable[str], share: int = 100
) -> Iterator[Sample]:
    """Each word that is not known, in `share` percent of the questions; words are held out."""
    taken = set(known)
    for word in words:
        if word in taken:
            continue
        split = split_of("unlearned", word)
        for question in questions:
            if digest("unlearned", question, word) % 100 < share:
                yield one(KIND, question.format(word), UNLEARNED, split)


def _drawn_characters(first: int, end: int, number: int) -> list[str]:
    """So many characters of a stretch of Unicode."""
    return [chr(code) for code in Random(digest("drawn", first)).sample(range(first, end), number)]


def _places() -> Iterator[Sample]:
    known = [country.name for country in COUNTRIES]
    capitals = [country.capital for country in COUNTRIES]
    countries = [*facts.COUNTRIES, *(invented_country(index) for index in range(400))]
    unlearned = list(dict.fromkeys(countries))
    also = ["{0}の首都がどこか知っていますか。", "では、{0}の首都はどこですか。"]
    yield from _asked([*_forward(CAPITAL_PHRASINGS), *also], unlearned, known, 45)
    yield from _asked(_forward(FLAG_PHRASINGS), unlearned, known, 25)
    yield from _asked(_backward(CAPITAL_PHRASINGS), facts.CITIES, capitals)
    prefectures, cities = zip(*KNOWN_PREFECTURES, strict=True)
    yield from _asked(_forward(PREFECTURE_PHRASINGS), facts.PREFECTURES, prefectures)
    names = [f"{city}市" for city in facts.CITIES]
    yield from _asked(_backward(PREFECTURE_PHRASINGS), names, cities, 50)


def _words() -> Iterator[Sample]:
    known_readings = [word for word, _ in facts_words.READINGS]
    yield from _asked(_forward(READING_PHRASINGS), facts.READINGS, known_readings, 70)
    yield from _asked(_forward(READING_PHRASINGS), TOPICS, known_readings, 12)
    opposites = [word for pair in facts_words.OPPOSITES for word in pair]
    yield from _asked(_forward(OPPOSITE_PHRASINGS), facts.OPPOSITES, opposites, 80)
    yield from _asked(_forward(OPPOSITE_PHRASINGS), TOPICS, opposites, 12)
    counted = [noun for noun, _ in facts_words.COUNTERS]
    yield from _asked(_forward(COUNTER_PHRASINGS), facts.COUNTED, counted)
    yield from _asked(_forward(COUNTER_PHRASINGS), TOPICS, counted, 18)
    for verb in facts.VERBS:
        for task, ending in VERB_FORMS:
            time = pick(("", *(f"{time}、" for time in facts_words.TIMES)), "time", verb, ending)
            split = split_of("unlearned", verb)
            yield one(KIND, f"「{time}{verb}。」を{task}", UNLEARNED, split)


def _signs() -> Iterator[Sample]:
    words = [word for word, _ in EMOJI]
    yield from _asked(_forward(EMOJI_PHRASINGS), facts.SIGNLESS, words, 70)
    yield from _asked(_forward(EMOJI_PHRASINGS), TOPICS, words, 12)
    signs = [sign for _, sign in EMOJI]
    more = [sign for sign in _drawn_characters(0x1F300, 0x1F650, 200) if sign not in facts.SIGNS]
    yield from _asked(_backward(EMOJI_PHRASINGS), [*facts.SIGNS, *more], signs)
    bases = [base for base, _ in TRIPLED]
    yield from _asked(_forward(TRIPLED_PHRASINGS), facts.BASES, bases, 70)
    rare = {kanji_ for _, kanji_ in (*TRIPLED, *NAMED_KANJI)} | {k for k, _ in RARE_READINGS}
    drawn = [*_drawn_characters(0x4E00, 0x9FA0, 300), *_drawn_characters(0x20000, 0x2A6D7, 60)]
    more = list(dict.fromkeys([*facts.RARE, *drawn]))
    yield from _asked(_forward(RARE_READING_PHRASINGS), more, rare, 60)
    yield from _asked(_backward(TRIPLED_PHRASINGS), more, rare, 60)


def _numbers() -> Iterator[Sample]:
    """Sums, differences and products of numbers beyond the tables, and division."""
    quotients = ("{a}÷{b}は?", "{a}わる{b}はいくつですか。", "{a}割る{b}を計算してください。")
    sums = [question for question, _ in (*SUM_PHRASINGS, *DIFFERENCE_PHRASINGS)]
    products = [q.replace("{0}", "{a}").replace("{1}", "{b}") for q, _ in PRODUCT_PHRASINGS]
    for index in range(1600):
        rng = Random(digest("numbers", index))
        question = rng.choice((*sums, *products, *quotients))
        a, b = rng.randint(120, 9999), rng.randint(2, 9999)
        if question in products and rng.random() < 0.5:
            a = rng.randint(13, 99)
        elif question in quotients:
            a, b = rng.randint(1, 200), rng.randint(1, 12)
        write = kanji if rng.random() < 0.25 else str
        numbers = {"a": write(a), "b": write(b), "c": ""}
        yield one(KIND, question.format(**numbers), UNLEARNED, split_of("numbers", index))


def unlearned() -> Iterator[Sample]:
    """All of them."""
    yield from _places()
    yield from _words()
    yield from _signs()
    yield from _numbers()
