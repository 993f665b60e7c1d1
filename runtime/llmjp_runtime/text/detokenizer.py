"""Ids of a reply to its text, while it is generated."""

from __future__ import annotations

import codecs
from itertools import groupby
from typing import TYPE_CHECKING

from llmjp_builder.contracts.judgement.decoding import SPACE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from llmjp_builder.contracts.judgement.decoding import DecodingRules

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")
_SPACE = SPACE.encode()


class Detokenizer:
    """Incremental: the concatenation of all `feed`s is the text, however its ids are divided.

    Ids become bytes, bytes become characters; a character is given as soon as its last byte is
    there. For ids of any valid text the result is that of the tokenizer's own decoder over all ids.
    It differs for bytes that are not UTF-8: one U+FFFD stands for each maximal subpart (Unicode
    standard, section 3.9), where the library's decoder may also spoil newlines beside it.

    A reply continues its prompt: feed the prompt first, and what the reply's ids give is the text
    of both less the prompt's. So the leading space that a decoder takes off is the prompt's, and a
    character that the prompt began is finished.

    Bytes of a character that was begun and not finished (generation stopped in its middle) are
    never given: a reply ends with its last whole character. Clusters of characters (emoji joined by
    ZWJ, flags, variation selectors) are not held together: concatenation loses nothing.
    """

    __slots__ = ("_at_start", "_marks", "_pieces", "_rules", "_spaces_in_text", "_utf8")

    def __init__(
        self,
        pieces: Sequence[bytes],
        rules: DecodingRules,
        marks: Mapping[int, str] | None = None,
    ) -> None:
        """Start a text.

        Args:
            pieces: by id, as `build_pieces` leaves them; ids beyond have no text.
            rules: the tokenizer's.
            marks: by id, what stands for it instead of its piece (see `stop_strings`).
        """
        self._pieces = pieces
        self._rules = rules
        self._spaces_in_text = rules.spells_spaces_in_bytes or rules.strips_first_piece
        self._marks = marks or {}
        self._at_start = True
        self._utf8 = _Utf8Decoder("replace")

    def feed(self, ids: Iterable[int]) -> str:
        """Return the text that these ids complete; may be empty."""
        marks = self._marks
        if not marks:
            return self._decode(ids)
        return "".join(
            "".join(map(marks.__getitem__, run)) if marked else self._decode(run)
            for marked, run in groupby(ids, key=marks.__contains__)
        )

    def _decode(self, ids: Iterable[int]) -> str:
        pieces = self._pieces
        num_pieces = len(pieces)
        found = [pieces[i] for i in ids if i < num_pieces]
        if self._at_start and self._rules.strips_first_piece:
            self._strip_first_piece(found)
        text = self._utf8.decode(b"".join(found))
        if self._spaces_in_text:
            text = text.replace(SPACE, " ")
        if self._at_start and text:
            self._at_start = False
            if self._rules.strips_space:
                return text.removeprefix(" ")
        return text

    def _strip_first_piece(self, found: list[bytes]) -> None:
        for index, piece in enumerate(found):
            if piece:
                found[index] = piece.replace(_SPACE, b"")
                self._at_start = False
                return
