"""Questions and answers: what one is, and which are kept from training.

Every kind of question is a function in a `kinds_*` module that yields `Sample`s; `samples` joins
them, checks them against each other and puts each in one of two sets. The split is a hash of what
is asked, so it depends neither on order nor on what other kinds there are.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

T = TypeVar("T")

SEED = 3
"""Changes every choice of the generator: which combinations are held out, which phrasings."""

SYSTEM = "以下は、タスクを説明する指示です。要求を適切に満たす応答を書きなさい。"
"""The system turn of the llm-jp-3 chat format; its template writes this whatever the turn says."""


class Split(StrEnum):
    """Which set a sample belongs to."""

    TRAINED = "trained"
    HELD_OUT = "held-out"


@dataclass(frozen=True, slots=True)
class Sample:
    """One conversation that ends in the answer to learn or to be asked for."""

    kind: str
    turns: tuple[str, ...]
    """User, assistant, user, ...: an odd number of texts, the last one the question."""
    answer: str
    split: Split

    @property
    def messages(self) -> list[dict[str, str]]:
        """The chat up to the question, the system turn first, as the server sends it."""
        roles = ("user", "assistant")
        turns = [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(self.turns)]
        return [{"role": "system", "content": SYSTEM}, *turns]


def digest(*parts: object) -> int:
    """A number that depends on the parts and `SEED` only, the same on every machine."""
    text = "\x1f".join(str(part) for part in (SEED, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def split_of(*key: object, percent: int = 12) -> Split:
    """The set of the combination `key`: about `percent` of all keys are held out."""
    return Split.HELD_OUT if digest("split", *key) % 100 < percent else Split.TRAINED


def pick(options: Sequence[T], *key: object) -> T:
    """One of the options, chosen by `key`."""
    return options[digest("pick", *key) % len(options)]


Phrasing: TypeAlias = tuple[str, str]
"""Question and answer, each a format string over the fact's fields."""


def phrased(
    kind: str, facts: Iterable[Sequence[str]], phrasings: Sequence[Phrasing]
) -> Iterator[Sample]:
    """Every fact in every phrasing; for each fact one phrasing is held out."""
    for fact in facts:
        held_out = digest("phrasing", kind, *fact) % len(phrasings)
        for index, (question, answer) in enumerate(phrasings):
            split = Split.HELD_OUT if index == held_out else Split.TRAINED
            yield Sample(kind, (question.format(*fact),), answer.format(*fact), split)


def one(kind: str, question: str, answer: str, split: Split) -> Sample:
    """A sample of a single turn."""
    return Sample(kind, (question,), answer, split)


def joined(groups: Iterable[Iterable[Sample]]) -> list[Sample]:
    """The samples of all groups, each question once.

    A question that two groups ask is trained if either trains it.

    Raises:
        ValueError: Two samples give the same conversation different answers.
    """
    found: dict[tuple[str, ...], Sample] = {}
    for sample in (sample for group in groups for sample in group):
        known = found.setdefault(sample.turns, sample)
        if known.answer != sample.answer:
            raise ValueError(f"two answers to {sample.turns}: {known.answer!r}, {sample.answer!r}")
        if known.split is Split.HELD_OUT and sample.split is Split.TRAINED:
            found[sample.turns] = sample
    return list(found.values())
