"""How many questions the model answers exactly, by kind and set."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .decoding import greedy
from .encoding import encoded
from .qa import Sample, Split, digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import LlamaForCausalLM


@dataclass(frozen=True, slots=True)
class Score:
    """Exact answers among the questions asked."""

    right: int
    asked: int

    @property
    def share(self) -> float:
        """Between 0 and 1; 1 where nothing was asked."""
        return self.right / self.asked if self.asked else 1.0


@dataclass(frozen=True, slots=True)
class Report:
    """The score of every kind in each set, and what was answered wrongly."""

    penalty: float
    by_kind: dict[tuple[str, Split], Score]
    wrong: list[tuple[Sample, str]]
    """Sample and the model's answer."""

    def total(self, split: Split) -> Score:
        """The score over all kinds."""
        scores = [score for (_, of), score in self.by_kind.items() if of is split]
        return Score(sum(s.right for s in scores), sum(s.asked for s in scores))


def drawn(samples: Sequence[Sample], split: Split, number: int) -> list[Sample]:
    """Up to `number` samples of a set, the same ones always, whatever order they come in."""
    of_split = [sample for sample in samples if sample.split is split]
    return sorted(of_split, key=lambda s: digest("drawn", *s.turns))[:number]


def evenly_drawn(samples: Sequence[Sample], split: Split, per_kind: int) -> list[Sample]:
    """Up to `per_kind` samples of every kind, so that the sums do not outweigh the rest."""
    kinds = dict.fromkeys(sample.kind for sample in samples)
    return [
        sample
        for kind in kinds
        for sample in drawn([s for s in samples if s.kind == kind], split, per_kind)
    ]


def measured(
    model: LlamaForCausalLM,
    tokenizer: Any,
    samples: Sequence[Sample],
    *,
    penalty: float = 1.0,
    batch: int = 64,
) -> Report:
    """Asks every sample's question, greedily, and compares the answer's text."""
    prompts = [entry.prompt for entry in encoded(tokenizer, samples)]
    replies = greedy(model, prompts, penalty=penalty, batch=batch)
    asked: Counter[tuple[str, Split]] = Counter()
    right: Counter[tuple[str, Split]] = Counter()
    wrong = []
    for sample, reply in zip(samples, replies, strict=True):
        answer = tokenizer.decode(reply)
        asked[sample.kind, sample.split] += 1
        if answer == sample.answer:
            right[sample.kind, sample.split] += 1
        else:
            wrong.append((sample, answer))
    return Report(penalty, {key: Score(right[key], asked[key]) for key in asked}, wrong)
