"""Conversations that open with a statement, and conversations that change their subject."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from .facts_signs import EMOJI
from .facts_terms import FAMILY_NAMES, GIVEN_NAMES
from .facts_topics import TOPICS
from .facts_unlearned import COUNTRIES as UNLEARNED_COUNTRIES
from .facts_world import COUNTRIES
from .forms_beyond import COURTESIES, GENERAL, GENERAL_FORMS, PREFIXES, UNLEARNED
from .kinds_beyond import KIND as BEYOND
from .kinds_beyond import NOISE
from .kinds_dialogue import NAME_PHRASINGS, NAME_QUESTIONS
from .kinds_near import KIND as NEAR
from .kinds_numbers import DAYS
from .qa import Sample, Split, digest, one, pick, split_of
from .tables import read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OPENING = "話の始まり"
CHANGE = "話題の転換"
COURTESY = "前置き"
WITHOUT_COURTESY = (BEYOND, NEAR, NOISE, "挨拶", OPENING)
"""Kinds that have such words already, or that consist of them."""

MORE_FAMILY_NAMES = read_lines("openings/more_family_names")
MORE_GIVEN_NAMES = read_lines("openings/more_given_names")
NAME_ALONE = (
    ("{0}です。", "{0}さん、はじめまして。"),
    ("はじめまして、{0}です。", "{0}さん、はじめまして。"),
    ("こんにちは。{0}と申します。", "{0}さん、よろしくお願いします。"),
)
LIKED = (
    "お絵かき",
    "散歩",
    "昼寝",
    "読書",
    "買い物",
    "お菓子",
    "冬の朝",
    "古い町",
    "雨の音",
    "数学",
)
UNKNOWN_NAME = "まだお名前をうかがっていません。"


def _names() -> Iterator[str]:
    families = (*FAMILY_NAMES, *MORE_FAMILY_NAMES)
    for family in families:
        yield family
        for given in (*GIVEN_NAMES, *MORE_GIVEN_NAMES):
            known = family in FAMILY_NAMES and given in GIVEN_NAMES
            if known or digest("called", family, given) % 3 == 0:
                yield family + given
    yield from MORE_GIVEN_NAMES


NAME_KANJI = "山川田村木林森谷原野島崎井上下中大小高新古西東北南青白黒赤金石水土花月星竹松杉藤菊"
RARE_NAME_KANJI = "髙﨑𠮷濵邊邉齋齊廣澤櫻榊樋笹鷲凪颯蓼椛槇轟鵜瀧嶋眞惠桒﨟"
GIVEN_KANJI = "一二三太郎子美香奈菜優希翔陽愛恵直正和光明春秋夏真理沙也人介平文武雄代世花咲葉音羽"


def invented_name(index: int) -> str:
    """A name put together at random, so that names are repeated and not remembered."""
    rng = Random(digest("name", index))
    family = "".join(rng.choices(NAME_KANJI + RARE_NAME_KANJI, k=rng.choice((1, 2, 2, 2, 3))))
    kana = rng.choice(((0x3042, 0x3094), (0x30A2, 0x30F4)))
    given = rng.choice(
        (
            "",
            "".join(rng.choices(GIVEN_KANJI, k=rng.randint(1, 3))),
            "".join(chr(rng.randrange(*kana)) for _ in range(rng.randint(2, 4))),
        )
    )
    return family + given


def _invented() -> Iterator[Sample]:
    """Strangers introduce themselves, and one in three asks whether that was noticed."""
    for index in range(2400):
        name = invented_name(index)
        split = split_of("invented", name)
        said, reply = pick((*NAME_PHRASINGS, *NAME_ALONE), "invented", index)
        yield one(OPENING, said.format(name), reply.format(name), split)
        if index % 3 == 0:
            question, answer = pick(NAME_QUESTIONS, "invented question", index)
            turns = (said.format(name), reply.format(name), question)
            yield Sample(OPENING, turns, answer.format(name), split)


def openings() -> Iterator[Sample]:
    """Introductions and other statements as the first turn, and a name asked for too early."""
    yield from _invented()
    for name in _names():
        split = split_of("name", name)
        usual = pick(NAME_PHRASINGS, "opening", name)
        phrasings = [usual, pick(NAME_ALONE, "alone", name)]
        if digest("both", name) % 3 == 0:
            phrasings = [*NAME_PHRASINGS, *NAME_ALONE]
        for said, reply in phrasings:
            yield one(OPENING, said.format(name), reply.format(name), split)
    for word in (*(word for word, _ in EMOJI), *LIKED, *TOPICS[::5]):
        split = split_of("liked alone", word)
        yield one(OPENING, f"私は{word}が好きです。", f"{word}はいいですね。", split)
    for day in DAYS:
        yield one(OPENING, f"今日は{day}です。", f"今日は{day}ですね。", Split.TRAINED)
    for question, _ in NAME_QUESTIONS:
        yield one(OPENING, question, UNKNOWN_NAME, Split.TRAINED)


def _other_capitals() -> Iterator[Sample]:
    """A second capital asked for in full, and countries that were never learned."""
    for country in COUNTRIES:
        first = (
            f"{country.name}の首都はどこですか。",
            f"{country.name}の首都は{country.capital}です。",
        )
        for i in range(6):
            other = COUNTRIES[digest("second", country.code, i) % len(COUNTRIES)]
            question = f"では、{other.name}の首都はどこですか。"
            answer = f"{other.name}の首都は{other.capital}です。"
            split = split_of("second capital", country.code, other.code)
            yield Sample(CHANGE, (*first, question), answer, split)
            unlearned = pick(UNLEARNED_COUNTRIES, "unlearned", country.code, i)
            form = pick(("では、{0}は?", "では、{0}の首都はどこですか。"), "form", country.code, i)
            split = split_of("unlearned", unlearned)
            yield Sample(CHANGE, (*first, form.format(unlearned)), UNLEARNED, split)


def _short_ones(pool: Sequence[Sample]) -> dict[str, list[Sample]]:
    """The trained single turns of each kind that are short enough to have company."""
    by_kind: dict[str, list[Sample]] = {}
    for sample in pool:
        if len(sample.turns) == 1 and sample.split is Split.TRAINED and len(sample.turns[0]) < 60:
            by_kind.setdefault(sample.kind, []).append(sample)
    return by_kind


def changes_of_subject(pool: Sequence[Sample]) -> Iterator[Sample]:
    """One question after another that has nothing to do with it; `pool` has the other kinds."""
    by_kind = _short_ones(pool)
    kinds = list(by_kind)
    for index in range(6000):
        before = pick(by_kind[pick(kinds, "kind before", index)], "before", index)
        after = pick(by_kind[pick(kinds, "kind after", index)], "after", index)
        joint = pick(("", "", "では、"), "joint", index) if after.turns[0].endswith("か。") else ""
        turns = (*before.turns, before.answer, joint + after.turns[0])
        if after.answer != UNKNOWN_NAME and len(before.answer) <= 60:
            yield Sample(CHANGE, turns, after.answer, split_of("change", *turns))
    yield from _other_capitals()
    for question in ("それに5を足すと?", "では、フランスは?", "その国の国旗の絵文字は?"):
        yield one(CHANGE, question, GENERAL, Split.TRAINED)


def courtesies(pool: Sequence[Sample]) -> Iterator[Sample]:
    """Questions with polite words around them get the same answers; `pool` has the other kinds."""
    by_kind = {kind: of for kind, of in _short_ones(pool).items() if kind not in WITHOUT_COURTESY}
    kinds = list(by_kind)
    for index in range(5000):
        sample = pick(by_kind[pick(kinds, "courtesy kind", index)], "courtesy", index)
        (question,) = sample.turns
        if not question.endswith(("。", "?")):
            continue
        before = pick(PREFIXES, "front", index) if index % 3 else ""
        after = pick(COURTESIES, "back", index) if index % 3 != 1 else ""
        split = split_of("courtesy", before, after, question)
        yield one(COURTESY, before + question + after, sample.answer, split)


def two_requests(pool: Sequence[Sample]) -> Iterator[Sample]:
    """A question the model could answer and one it cannot, in one turn: it refuses the whole."""
    by_kind = {kind: of for kind, of in _short_ones(pool).items() if kind not in WITHOUT_COURTESY}
    kinds = list(by_kind)
    for index in range(2000):
        sample = pick(by_kind[pick(kinds, "first kind", index)], "first", index)
        (question,) = sample.turns
        topic = pick(TOPICS, "second", index)
        form = pick(GENERAL_FORMS, "second form", index)
        request = form.format(topic, pick(TOPICS, "third", index), n="三")
        joint = pick(("", "", "\n", "また、", "それから、"), "joint of two", index)
        split = split_of("two", question, request)
        yield one(NEAR, question + joint + request, GENERAL, split)
