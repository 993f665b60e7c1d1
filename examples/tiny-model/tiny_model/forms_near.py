"""Questions near the model's own kinds: its words, but not what it learned of them.

Each table is a set of forms and goes with one set of words in `kinds_near`.
"""

from __future__ import annotations

from .tables import read_pairs

SIGN_FORMS = read_pairs("near/sign_forms")
KANJI_FORMS = read_pairs("near/kanji_forms")
COUNTRY_FORMS = read_pairs("near/country_forms")
WORD_FORMS = read_pairs("near/word_forms")
SENTENCE_FORMS = read_pairs("near/sentence_forms")
CALENDAR_FORMS = read_pairs("near/calendar_forms")
TALE_FORMS = read_pairs("near/tale_forms")
NUMBER_FORMS = read_pairs("near/number_forms")
NAME_FORMS = read_pairs("near/name_forms")
