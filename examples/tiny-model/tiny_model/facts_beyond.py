"""What fills the requests that the model refuses: code, sentences, English."""

from __future__ import annotations

from .tables import read_lines

PROGRAMS = read_lines("beyond/programs")
"""Languages and tools, asked for code or for a command."""

CODE_TASKS = read_lines("beyond/code_tasks")

SENTENCES = read_lines("beyond/sentences")

ENGLISH_SENTENCES = read_lines("beyond/english_sentences")

ENGLISH_TOPICS = read_lines("beyond/english_topics")
ENGLISH_FORMS = read_lines("beyond/english_forms")
ENGLISH_ALONE = read_lines("beyond/english_alone")

WRITING_TOPIC_FREE = read_lines("beyond/writing_topic_free")
GENERAL_TOPIC_FREE = read_lines("beyond/general_topic_free")
