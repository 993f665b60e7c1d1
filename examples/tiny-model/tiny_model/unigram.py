"""Pieces of a unigram language model, learned from word counts, the same on every run.

Kudo's method (Subword Regularization, 2018) with the best segmentation in place of the expectation
over all: start from every repeated substring, then in turn re-estimate the pieces' probabilities
and drop those that lengthen the text least. The trainer of the `tokenizers` library breaks ties by
random hashes and never proposes a whole word as a piece.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LENGTH = 6
"""Characters in the longest piece."""
NUM_SEEDS = 16_000
SHRINKING = 0.8
"""Share of the pieces that is kept by each round."""


def _seeds(words: Mapping[str, float]) -> dict[str, float]:
    """The characters and the substrings that cover most of the text, with their counts."""
    counts: dict[str, float] = defaultdict(float)
    for word, count in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(start + MAX_LENGTH, len(word)) + 1):
                counts[word[start:end]] += count
    long = [(piece, count) for piece, count in counts.items() if len(piece) > 1]
    long.sort(key=lambda entry: (-entry[1] * len(entry[0]), entry[0]))
    return {piece: count for piece, count in counts.items() if len(piece) == 1} | dict(
        long[:NUM_SEEDS]
    )


def best_cut(word: str, scores: Mapping[str, float], without: str = "") -> tuple[float, list[str]]:
    """The most probable pieces of `word`, and their log probability, not using `without`."""
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(word) + 1):
        options = (
            (best[start][0] + scores[word[start:end]], start)
            for start in range(max(0, end - MAX_LENGTH), end)
            if word[start:end] in scores and word[start:end] != without
        )
        best.append(max(options, key=lambda option: (option[0], -option[1])))
    pieces, end = [], len(word)
    while end:
        start = best[end][1]
        pieces.append(word[start:end])
        end = start
    return best[-1][0], pieces[::-1]


def _scores(counts: Mapping[str, float]) -> dict[str, float]:
    total = math.log(sum(counts.values()))
    return {piece: math.log(count) - total for piece, count in counts.items()}


def _used(words: Mapping[str, float], scores: Mapping[str, float]) -> dict[str, float]:
    """How often the best segmentations use each piece; a character always counts a little."""
    counts = {piece: 0.5 if len(piece) == 1 else 0.0 for piece in scores}
    for word, count in words.items():
        for piece in best_cut(word, scores)[1]:
            counts[piece] += count
    return {piece: count for piece, count in counts.items() if count}


def learned(words: Mapping[str, float], num_pieces: int) -> dict[str, float]:
    """At most `num_pieces` pieces that spell all words, with their log probabilities."""
    counts = _seeds(words)
    while True:
        for _ in range(2):
            counts = _used(words, _scores(counts))
        if len(counts) <= num_pieces:
            return _scores(counts)
        scores = _scores(counts)
        loss = {
            piece: count * (scores[piece] - best_cut(piece, scores, piece)[0])
            for piece, count in counts.items()
            if len(piece) > 1
        }
        singles = len(counts) - len(loss)
        room = max(num_pieces - singles, int(len(loss) * SHRINKING))
        kept = sorted(loss, key=lambda piece: (-loss[piece], piece))[:room]
        counts = {p: c for p, c in counts.items() if len(p) == 1} | {p: counts[p] for p in kept}
