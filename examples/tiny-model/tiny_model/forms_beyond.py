"""Ways to ask for what the model cannot do, and the refusal each way of asking gets.

The refusal follows from the form alone: what is to be written gets one, what is to be programmed
another, and so on. So even a refusal can be marked as exactly right or wrong.
"""

from __future__ import annotations

from .tables import read_lines, read_pairs

GENERAL = "すみません、私は小さなモデルなので、その質問には答えられません。"
WRITING = "すみません、私は小さなモデルなので、文章は書けません。"
CODE = "すみません、私は小さなモデルなので、プログラムやコマンドは分かりません。"
TRANSLATION = "すみません、私は小さなモデルなので、その文は訳せません。"
UNLEARNED = "すみません、それは習っていません。"
ENGLISH = "Sorry, I am a small model and cannot answer that."

EXPLAIN_FORMS = read_lines("beyond/explain_forms")
"""These may only be asked of topics that the model has no explanation of."""

GENERAL_FORMS = read_lines("beyond/general_forms")

WRITING_FORMS = read_lines("beyond/writing_forms")

CODE_FORMS = read_lines("beyond/code_forms")

TRANSLATION_FORMS = read_lines("beyond/translation_forms")

ACTION_FORMS = read_lines("beyond/action_forms")

SITUATION_FORMS = read_lines("beyond/situation_forms")

LETTER_FORMS = read_lines("beyond/letter_forms")

LOOKALIKE_FORMS = read_lines("beyond/lookalike_forms")

PASSAGE_FORMS = read_pairs("beyond/passage_forms")
"""What to do with a text that follows (the letters: see `BY_LETTER`)."""

BY_LETTER = {"G": GENERAL, "W": WRITING, "C": CODE, "T": TRANSLATION}

PREFIXES = read_lines("beyond/prefixes")
COURTESIES = read_lines("beyond/courtesies")
DEMANDS = read_lines("beyond/demands")
