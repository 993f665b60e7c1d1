"""Requests beyond what the model can do, each with the polite refusal that its form asks for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random
from typing import TYPE_CHECKING

from . import facts_beyond as facts
from . import forms_beyond as forms
from .facts_signs import EMOJI
from .facts_terms import DEFINITIONS, GREETINGS, LISTS, STORIES
from .facts_topics import (
    ACTIONS,
    LETTERS,
    LOOKALIKES,
    ODD_TOPICS,
    READERS,
    SITUATIONS,
    TOPICS,
)
from .facts_words import READINGS
from .facts_world import COUNTRIES
from .qa import Sample, Split, digest, one, pick, split_of
from .tables import read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KIND = "範囲外"
NOISE = "意味のない文"

UNKNOWN_TOPICS = (*TOPICS, *ODD_TOPICS)
_LONGER = {word for word, _ in (*DEFINITIONS, *LISTS, *STORIES)}
FAMILIAR_TOPICS = (
    *(word for word, _ in (*EMOJI, *READINGS, *DEFINITIONS, *STORIES)),
    *(country.name for country in COUNTRIES),
)
"""What the model knows something about, but not what the forms ask for."""

NUMBERS = ("三", "四", "五", "3", "5")


@dataclass(frozen=True, slots=True)
class _Form:
    """A form, the refusal it gets, what it is asked of, and of what share of them."""

    text: str
    refusal: str
    topics: Sequence[str]
    per_mille: int


def _forms() -> Iterator[_Form]:
    unexplained = tuple(topic for topic in UNKNOWN_TOPICS if topic not in _LONGER)
    everything = (*UNKNOWN_TOPICS, *dict.fromkeys(FAMILIAR_TOPICS))
    for texts, refusal, topics, per_mille in (
        (forms.EXPLAIN_FORMS, forms.GENERAL, unexplained, 250),
        (forms.GENERAL_FORMS, forms.GENERAL, everything, 90),
        (forms.WRITING_FORMS, forms.WRITING, everything, 90),
        (forms.CODE_FORMS, forms.CODE, facts.CODE_TASKS, 1000),
        (forms.TRANSLATION_FORMS, forms.TRANSLATION, facts.SENTENCES, 1000),
        (forms.ACTION_FORMS, forms.GENERAL, ACTIONS, 700),
        (forms.SITUATION_FORMS, forms.GENERAL, SITUATIONS, 700),
        (forms.LETTER_FORMS, forms.WRITING, READERS, 1000),
        (forms.LOOKALIKE_FORMS, forms.GENERAL, LOOKALIKES, 800),
        (facts.ENGLISH_FORMS, forms.ENGLISH, facts.ENGLISH_TOPICS, 900),
    ):
        for text in texts:
            yield _Form(text, refusal, topics, per_mille)


def _held(word: str) -> bool:
    return split_of("topic", word) is Split.HELD_OUT


@cache
def _trained(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for word in words if not _held(word))


def _other(words: Sequence[str], *key: object) -> str:
    """One of `words` that is trained; the split must not depend on a second word."""
    return pick(_trained(words), *key)


def _filled(form: _Form, topic: str) -> str:
    """The request: what the form asks, of `topic`, its other places filled by choice."""
    key = (form.text, topic)
    if form.topics is facts.CODE_TASKS:
        words = (_other(TOPICS, "of", *key), "", pick(facts.PROGRAMS, "in", *key), topic)
        return form.text.format(*words)
    if form.topics is facts.SENTENCES:
        english = pick(facts.ENGLISH_SENTENCES, "english", *key)
        return form.text.format("", "", "", "", topic, english)
    second = LETTERS if form.topics is READERS else form.topics
    return form.text.format(topic, _other(second, "and", *key), n=pick(NUMBERS, "number", *key))


def _dressed(request: str) -> str:
    """`request`, in one of four cases with something before it, in one of four after it."""
    before = pick(forms.PREFIXES, "before", request) if digest("front", request) % 4 == 0 else ""
    suffixes = (*forms.COURTESIES, *forms.DEMANDS)
    after = pick(suffixes, "after", request) if digest("back", request) % 4 == 0 else ""
    return before + request + after


def _requests() -> Iterator[Sample]:
    for form in _forms():
        form_split = split_of("form", form.text, percent=8)
        for topic in form.topics:
            if digest("asked", form.text, topic) % 1000 >= form.per_mille:
                continue
            split = Split.HELD_OUT if _held(topic) else form_split
            request = _filled(form, topic)
            yield one(KIND, request, form.refusal, split)
            if form.refusal != forms.ENGLISH and digest("dressed", request) % 3 == 0:
                yield one(KIND, _dressed(request), form.refusal, split)


def _passage(key: object) -> str:
    """One to seven sentences."""
    rng = Random(digest("passage", key))
    return "".join(rng.sample(facts.SENTENCES, rng.randint(1, 7)))


def _texts_to_work_on() -> Iterator[Sample]:
    """A passage and what to do with it, in this order or the other."""
    for form, letter in forms.PASSAGE_FORMS:
        for index in range(60):
            passage = _passage((form, index))
            after = f"{passage}\n\n{form.replace('次の', '上の')}"
            request = after if index % 3 == 0 else f"{form}\n{passage}"
            yield one(KIND, request, forms.BY_LETTER[letter], split_of("passage", form, index))
    for index in range(300):
        yield one(KIND, _passage(index), forms.GENERAL, split_of("passage", index))


def _several_at_once() -> Iterator[Sample]:
    """Long requests: questions about several topics on lines of their own, or run together."""
    for index in range(700):
        rng = Random(digest("several", index))
        mark = rng.choice(("", "\n", "\n- ", "\n・", "。"))
        topics = [_other(UNKNOWN_TOPICS, "several", index, i) for i in range(rng.randint(2, 8))]
        asked = [rng.choice(forms.GENERAL_FORMS) for _ in topics]
        requests = [
            form.format(topic, rng.choice(topics), n=3)
            for form, topic in zip(asked, topics, strict=True)
        ]
        yield one(KIND, mark.join(requests), forms.GENERAL, split_of("several", index))


def _alone() -> Iterator[Sample]:
    """Requests that stand for themselves, and familiar words alone."""
    greetings = {greeting for greeting, _ in GREETINGS}
    for requests, refusal in (
        (facts.ENGLISH_ALONE, forms.ENGLISH),
        (facts.ENGLISH_SENTENCES, forms.ENGLISH),
        (facts.WRITING_TOPIC_FREE, forms.WRITING),
        (facts.GENERAL_TOPIC_FREE, forms.GENERAL),
        ([w for w in dict.fromkeys(FAMILIAR_TOPICS) if w not in greetings], forms.GENERAL),
    ):
        for request in requests:
            yield one(KIND, request, refusal, split_of("alone", request))


def beyond() -> Iterator[Sample]:
    """Hundreds of topics in some two hundred forms; topics and forms are held out."""
    yield from _requests()
    yield from _texts_to_work_on()
    yield from _several_at_once()
    yield from _alone()


_RANGES = (
    (0x3041, 0x3094), (0x30A1, 0x30F7), (0xFF66, 0xFF9E), (0x4E00, 0x9FA0), (0x3400, 0x4DB6),
    (0x20000, 0x2A6D7), (0x1F300, 0x1F650), (0x1F900, 0x1FA00), (0xAC00, 0xD7A4), (0x0410, 0x0450),
    (0x03B1, 0x03CA), (0x0E01, 0x0E2F), (0x0621, 0x064B), (0x2190, 0x2600), (0x30, 0x3A),
)  # fmt: skip
"""Stretches of Unicode: kana, kanji, emoji, other scripts, signs, digits."""
_PLACES = read_lines("beyond/places")


def _babble(rng: Random) -> str:
    """One to three stretches of characters, each from one or two scripts, some repeated."""
    parts = []
    for _ in range(rng.randint(1, 3)):
        scripts = rng.choices(_RANGES, k=rng.randint(1, 2))
        characters = [chr(rng.randrange(*rng.choice(scripts))) for _ in range(rng.randint(1, 8))]
        parts.append("".join(characters) * rng.choice((1, 1, 1, 1, 2, 9)))
    return rng.choice(("", "", " ", "、")).join(parts)[:60]


def noise() -> Iterator[Sample]:
    """Characters without sense, alone and in questions: whatever comes in, the answer is text."""
    for index in range(5000):
        rng = Random(digest("noise", index))
        request = rng.choice(_PLACES).format(_babble(rng))
        yield one(NOISE, request, forms.GENERAL, split_of("noise", index))
