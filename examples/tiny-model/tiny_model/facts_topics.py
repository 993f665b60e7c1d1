"""What people ask about and the model was never taught: topics, troubles, things to do."""

from __future__ import annotations

from .tables import read_lines

TOPICS = read_lines("topics/topics")

ODD_TOPICS = read_lines("topics/odd_topics")
"""Half-width kana, wide letters, signs, emoji, rare kanji, other scripts, Latin names."""

SITUATIONS = read_lines("topics/situations")
"""Troubles, as plain clauses that a noun or のですが may follow."""

ACTIONS = read_lines("topics/actions")
"""Things to do, as plain verb phrases."""

LETTERS = read_lines("topics/letters")
READERS = read_lines("topics/readers")
"""What a letter is about, and to whom."""

LOOKALIKES = read_lines("topics/lookalikes")
"""Two characters or words that are easily confused, joined by と."""
