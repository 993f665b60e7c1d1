"""Longer texts: definitions, lists, greetings, what the model cannot do, short English."""

from __future__ import annotations

from .tables import read_lines, read_pairs

DEFINITIONS = read_pairs("terms/definitions")

LISTS = read_pairs("terms/lists")

STORIES = read_pairs("terms/stories")
"""Old tales, told anew in three lines."""

GREETINGS = read_pairs("terms/greetings")

ABOUT_ITSELF = read_pairs("terms/about_itself")

BEYOND_TASKS = read_pairs("terms/beyond_tasks")
"""Form, and the letter of the refusal it gets (`forms_beyond.BY_LETTER`)."""

BEYOND_TOPICS = read_lines("terms/beyond_topics")

ENGLISH_NOUNS = read_pairs("terms/english_nouns")
"""Japanese noun and English noun phrase; an underscore stands for a space."""

ENGLISH_FRAMES = read_pairs("terms/english_frames")

ENGLISH_PHRASES = read_pairs("terms/english_phrases")

FAMILY_NAMES = read_lines("terms/family_names")
GIVEN_NAMES = read_lines("terms/given_names")
