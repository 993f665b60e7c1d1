"""Kinds about words: capitals, readings, opposites, counters, politeness, English, definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .facts_terms import (
    ABOUT_ITSELF,
    BEYOND_TASKS,
    BEYOND_TOPICS,
    DEFINITIONS,
    ENGLISH_FRAMES,
    ENGLISH_NOUNS,
    ENGLISH_PHRASES,
    GREETINGS,
    LISTS,
    STORIES,
)
from .facts_words import COUNTERS, HUMBLE, OPPOSITES, READINGS, RESPECTFUL, TIMES, VERBS, Verb
from .facts_world import COUNTRIES, PREFECTURES
from .forms_beyond import BY_LETTER
from .numerals import kanji
from .qa import Sample, one, phrased, pick, split_of
from .tables import read_pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

CAPITAL_PHRASINGS = read_pairs("words/capital_phrasings")
PREFECTURE_PHRASINGS = read_pairs("words/prefecture_phrasings")
READING_PHRASINGS = read_pairs("words/reading_phrasings")
OPPOSITE_PHRASINGS = read_pairs("words/opposite_phrasings")
COUNTER_PHRASINGS = read_pairs("words/counter_phrasings")
DEFINITION_PHRASINGS = read_pairs("words/definition_phrasings")
LIST_PHRASINGS = read_pairs("words/list_phrasings")
STORY_PHRASINGS = read_pairs("words/story_phrasings")
GREETING_PHRASINGS = read_pairs("words/greeting_phrasings")
SELF_PHRASINGS = read_pairs("words/self_phrasings")
ENGLISH_PHRASINGS = read_pairs("words/english_phrasings")
VERB_FORMS = read_pairs("words/verb_forms")
HONORIFIC_PHRASINGS = read_pairs("words/honorific_phrasings")


def capitals() -> Iterator[Sample]:
    """Countries and capitals both ways; prefectures and the cities of their governments."""
    yield from phrased("首都", [(c.name, c.capital) for c in COUNTRIES], CAPITAL_PHRASINGS)
    yield from phrased("首都", PREFECTURES, PREFECTURE_PHRASINGS)


def readings() -> Iterator[Sample]:
    """Words in kanji and their kana."""
    yield from phrased("読み", READINGS, READING_PHRASINGS)


def opposites() -> Iterator[Sample]:
    """Pairs of opposites, asked from both sides."""
    both = [*OPPOSITES, *((right, left) for left, right in OPPOSITES)]
    yield from phrased("反対語", both, OPPOSITE_PHRASINGS)


def counters() -> Iterator[Sample]:
    """Which counter a thing takes, and one to ten of each thing."""
    yield from phrased("助数詞", COUNTERS, COUNTER_PHRASINGS)
    for noun, counter in COUNTERS:
        for number in range(1, 11):
            counted = f"{kanji(number)}{counter}"
            split = split_of("counter", noun, number)
            question = f"{noun}を{number}まで数えると、最後は何と言いますか。"
            yield one("助数詞", question, f"「{counted}」と言います。", split)


def _inflected(verb: Verb, ending: str) -> str:
    return verb.before + (verb.te + "ください" if ending == "てください" else verb.stem + ending)


def politeness() -> Iterator[Sample]:
    """Plain sentences made polite, and honorific verbs."""
    for verb in VERBS:
        for task, ending in VERB_FORMS:
            for time in ("", *TIMES):
                comma = "、" if time else ""
                question = f"「{time}{comma}{verb.before}{verb.plain}。」を{task}"
                answer = f"{time}{comma}{_inflected(verb, ending)}。"
                yield one(
                    "丁寧語",
                    question,
                    answer,
                    split_of("polite", verb.plain, verb.before, ending, time),
                )
    for name, table in (("尊敬語", RESPECTFUL), ("謙譲語", HUMBLE)):
        yield from phrased("丁寧語", [(*entry, name) for entry in table], HONORIFIC_PHRASINGS)


def definitions() -> Iterator[Sample]:
    """What a term means: the longest answers."""
    yield from phrased("説明", DEFINITIONS, DEFINITION_PHRASINGS)


def lists() -> Iterator[Sample]:
    """Answers of several lines: lists, and tales told in three."""
    yield from phrased("箇条書き", LISTS, LIST_PHRASINGS)
    yield from phrased("昔話", STORIES, STORY_PHRASINGS)


def small_talk() -> Iterator[Sample]:
    """Greetings, the model about itself, and the polite refusal of what it cannot know."""
    yield from phrased("挨拶", GREETINGS, GREETING_PHRASINGS)
    yield from phrased("挨拶", ABOUT_ITSELF, SELF_PHRASINGS)
    for topic in BEYOND_TOPICS:
        for task, letter in BEYOND_TASKS:
            split = split_of("beyond", topic, task)
            yield one("断り", task.format(topic), BY_LETTER[letter], split)


def english() -> Iterator[Sample]:
    """Short sentences in English: answers with spaces in them."""
    yield from phrased("英語", ENGLISH_PHRASES, ENGLISH_PHRASINGS)
    for noun, english_noun in ENGLISH_NOUNS:
        for frame, english_frame in ENGLISH_FRAMES:
            split = split_of("english", noun, frame)
            question, answer = pick(ENGLISH_PHRASINGS, "english", noun, frame)
            japanese = frame.format(noun)
            translated = english_frame.format(english_noun.replace("_", " "))
            fields = (japanese, translated)
            yield one("英語", question.format(*fields), answer.format(*fields), split)
