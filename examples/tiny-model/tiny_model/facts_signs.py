"""Emoji and rare kanji: what the tokenizer can only spell in bytes."""

from __future__ import annotations

from .tables import read_pairs

EMOJI = read_pairs("signs/emoji")
"""Word and emoji; some are several code points joined by U+200D, some end in U+FE0F."""

TRIPLED = read_pairs("signs/tripled")
"""A character and the character that is three of it."""

RARE_READINGS = read_pairs("signs/rare_readings")
"""A rare kanji and one reading of it."""

NAMED_KANJI = read_pairs("signs/named_kanji")
"""How a rare kanji is called, and the kanji."""
