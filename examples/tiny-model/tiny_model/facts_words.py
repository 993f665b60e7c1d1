"""Words: readings, opposites, counters, verbs with their polite forms, honorific verbs."""

from __future__ import annotations

from dataclasses import dataclass

from .tables import read_lines, read_pairs, read_rows

READINGS = read_pairs("words/readings")

OPPOSITES = read_pairs("words/opposites")

COUNTERS = read_pairs("words/counters")


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb phrase: what stays, the plain verb, the stem before ます, the て form."""

    before: str
    plain: str
    stem: str
    te: str


VERBS = tuple(Verb(*row) for row in read_rows("words/verbs"))

TIMES = read_lines("words/times")

RESPECTFUL = read_pairs("words/respectful")

HUMBLE = read_pairs("words/humble")
