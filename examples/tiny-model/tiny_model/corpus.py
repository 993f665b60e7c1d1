"""All questions of the tiny model."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from .kinds_beyond import beyond, noise
from .kinds_dialogue import follow_ups
from .kinds_near import near
from .kinds_numbers import (
    calendar,
    counting,
    differences,
    kanji_calculations,
    products,
    sums,
)
from .kinds_openings import changes_of_subject, courtesies, openings, two_requests
from .kinds_signs import emoji, kanji_with_emoji, rare_kanji
from .kinds_unlearned import unlearned
from .kinds_words import (
    capitals,
    counters,
    definitions,
    english,
    lists,
    opposites,
    politeness,
    readings,
    small_talk,
)
from .qa import Sample, Split, digest, joined

KINDS = (
    capitals,
    sums,
    differences,
    products,
    kanji_calculations,
    counting,
    calendar,
    readings,
    opposites,
    counters,
    politeness,
    definitions,
    lists,
    small_talk,
    english,
    emoji,
    rare_kanji,
    kanji_with_emoji,
    follow_ups,
    beyond,
    near,
    noise,
    unlearned,
    openings,
)
"""The generators, in the order the report lists them."""
COMBINING = (changes_of_subject, courtesies, two_requests)
"""The generators that combine what the others ask; they come last."""


FULL_WIDTH_QUESTION_MARK = "\uff1f"


def samples() -> list[Sample]:
    """Every sample, trained and held out, always the same and in the same order."""
    return list(_samples())


@cache
def _samples() -> tuple[Sample, ...]:
    plain = joined(kind() for kind in KINDS)
    return tuple(joined([plain, *(kind(plain) for kind in COMBINING)]))


def of_split(split: Split) -> list[Sample]:
    """The samples of one set."""
    return [sample for sample in samples() if sample.split is split]


def training_set() -> list[Sample]:
    """The trained samples, and a third of them again as people type: the last mark left out.

    A question that is held out never comes back this way.
    """
    everything = samples()
    trained = [sample for sample in everything if sample.split is Split.TRAINED]
    taken = {sample.turns for sample in everything}
    casual = (_casual(sample) for sample in trained if digest("casual", *sample.turns) % 3 == 0)
    return trained + [sample for sample in casual if sample.turns not in taken]


def _casual(sample: Sample) -> Sample:
    *before, question = sample.turns
    wide = question.endswith("?") and digest("wide", question) % 2 == 0
    shorter = question[:-1] + FULL_WIDTH_QUESTION_MARK if wide else question.rstrip("。?")
    return replace(sample, turns=(*before, shorter))
