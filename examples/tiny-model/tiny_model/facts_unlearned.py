"""Facts of the model's own kinds that it never learned: asked for them, it says so."""

from __future__ import annotations

from .tables import read_lines

COUNTRIES = read_lines("unlearned/countries")
"""Countries beyond the table, what once was one, and what is none."""

SYLLABLES = read_lines("unlearned/syllables")
ENDINGS = read_lines("unlearned/endings")
"""Names of countries that do not exist are put together from these."""

CITIES = read_lines("unlearned/cities")
PREFECTURES = read_lines("unlearned/prefectures")
READINGS = read_lines("unlearned/readings")
OPPOSITES = read_lines("unlearned/opposites")
COUNTED = read_lines("unlearned/counted")
SIGNLESS = read_lines("unlearned/signless")
SIGNS = read_lines("unlearned/signs")
"""Emoji of which the model knows no meaning."""
BASES = read_lines("unlearned/bases")
"""Characters of which the model knows no character made of three."""
RARE = read_lines("unlearned/rare")
VERBS = read_lines("unlearned/verbs")
"""Sentences whose polite forms the model never learned."""
