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

if TYPE_CHECKING:
    from collections.abc import Iterator

CAPITAL_PHRASINGS = (
    ("{0}の首都はどこですか。", "{0}の首都は{1}です。"),
    ("{0}の首都を教えてください。", "{0}の首都は{1}です。"),
    ("{0}の首都は?", "{1}です。"),
    ("{0}の首都の名前は何ですか。", "{1}です。"),
    ("{0}の首都を一語で答えてください。", "{1}"),
    ("{1}はどの国の首都ですか。", "{1}は{0}の首都です。"),
    ("{1}を首都とする国はどこですか。", "{0}です。"),
    ("{1}が首都の国を教えてください。", "{0}です。"),
    ("{1}は何という国の首都ですか。", "{1}は{0}の首都です。"),
    ("{0}の首都の名前だけを答えてください。", "{1}"),
)
PREFECTURE_PHRASINGS = (
    ("{0}の県庁はどこにありますか。", "{1}にあります。"),
    ("{0}の県庁所在地はどこですか。", "{0}の県庁所在地は{1}です。"),
    ("{0}の県庁所在地を教えてください。", "{1}です。"),
    ("{1}はどの県の県庁所在地ですか。", "{0}です。"),
    ("{1}に県庁があるのはどこですか。", "{0}です。"),
    ("{0}の県庁所在地は?", "{1}です。"),
    ("{0}の県庁がある市の名前は何ですか。", "{1}です。"),
    ("{1}が県庁所在地なのはどこですか。", "{0}です。"),
)
READING_PHRASINGS = (
    ("「{0}」の読み方は?", "「{1}」です。"),
    ("「{0}」は何と読みますか。", "「{1}」と読みます。"),
    ("「{0}」の読み方を教えてください。", "「{0}」は「{1}」と読みます。"),
    ("「{0}」に振り仮名を付けてください。", "{0}({1})"),
    ("「{0}」をひらがなで書いてください。", "{1}"),
    ("{0}の読みは何ですか。", "「{1}」です。"),
    ("「{0}」に読み仮名を付けてください。", "{0}({1})"),
)
OPPOSITE_PHRASINGS = (
    ("「{0}」の反対は?", "「{1}」です。"),
    ("「{0}」の反対の言葉は何ですか。", "「{1}」です。"),
    ("「{0}」の対義語を教えてください。", "「{0}」の対義語は「{1}」です。"),
    ("「{0}」の反対語を答えてください。", "{1}"),
    ("{0}の逆は何ですか。", "「{1}」です。"),
    ("「{0}」と反対の意味の言葉は?", "「{1}」です。"),
    ("「{0}」の反対を教えてください。", "「{0}」の反対は「{1}」です。"),
)
COUNTER_PHRASINGS = (
    ("{0}はどう数えますか。", "{0}は「{1}」で数えます。"),
    ("{0}を数えるときの助数詞は何ですか。", "「{1}」です。"),
    ("{0}の数え方を教えてください。", "一{1}、二{1}、三{1}と数えます。"),
    ("{0}の助数詞は?", "「{1}」です。"),
    ("{0}を数える言葉は?", "「{1}」です。"),
)
DEFINITION_PHRASINGS = (
    ("{0}とは何ですか。", "{1}"),
    ("{0}とは何か", "{1}"),
    ("{0}について教えてください。", "{1}"),
    ("{0}を説明してください。", "{1}"),
    ("{0}って何?", "{1}"),
    ("{0}の意味を教えてください。", "{1}"),
)
LIST_PHRASINGS = (
    ("{0}を書いてください。", "{1}"),
    ("{0}を一行ずつ書いてください。", "{1}"),
    ("{0}を順に教えてください。", "{1}"),
    ("{0}を並べてください。", "{1}"),
    ("{0}を全部挙げてください。", "{1}"),
    ("{0}は何ですか。一行ずつ答えてください。", "{1}"),
)
STORY_PHRASINGS = (
    ("{0}の話をしてください。", "{1}"),
    ("昔話の{0}を短く話してください。", "{1}"),
    ("{0}はどんな話ですか。", "{1}"),
    ("{0}のあらすじを教えてください。", "{1}"),
    ("{0}を三行で話してください。", "{1}"),
    ("{0}の物語を聞かせてください。", "{1}"),
)
GREETING_PHRASINGS = (
    ("{0}", "{1}"),
    ("{0}。", "{1}"),
    ("{0}!", "{1}"),
    ("{0}、モデルさん。", "{1}"),
)
SELF_PHRASINGS = (
    ("{0}ですか。", "{1}"),
    ("{0}?", "{1}"),
    ("{0}か教えてください。", "{1}"),
    ("ところで、{0}ですか。", "{1}"),
)
ENGLISH_PHRASINGS = (
    ("「{0}。」を英語にしてください。", "{1}"),
    ("「{0}」を英語で言うと?", "{1}"),
    ("「{0}。」を英訳してください。", "{1}"),
    ("「{0}」は英語で何と言いますか。", "「{1}」と言います。"),
)
VERB_FORMS = (
    ("丁寧に言ってください。", "ます"),
    ("丁寧な過去の言い方にしてください。", "ました"),
    ("丁寧に否定してください。", "ません"),
    ("丁寧に誘ってください。", "ましょう"),
    ("丁寧に頼んでください。", "てください"),
)
HONORIFIC_PHRASINGS = (
    ("「{0}」の{2}は?", "「{1}」です。"),
    ("「{0}」を{2}にしてください。", "{1}"),
    ("「{0}」の{2}を教えてください。", "「{0}」の{2}は「{1}」です。"),
    ("「{0}」を{2}で言うと何ですか。", "「{1}」です。"),
)


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
