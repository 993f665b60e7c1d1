"""Ids of a reply to its text, while it is generated."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from llmjp_runtime.text.pipeline import SPACE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """Incremental: the concatenation of all `feed`s is the reply, however its ids are divided.

    Ids become bytes, bytes become characters; a character is given as soon as its last byte is
    there. For ids of any valid text the result is that of the tokenizer's own decoder over all ids.
    It differs for bytes that are not UTF-8: one U+FFFD stands for each maximal subpart (Unicode
    standard, section 3.9), where the library's decoder also spoils newlines beside it.

    Bytes of a character that was begun and not finished (generation stopped in its middle) are
    never given: a reply ends with its last whole character. Clusters of characters (emoji joined by
    ZWJ, flags, variation selectors) are not held together: concatenation loses nothing.
    """

    __slots__ = ("_at_start", "_pieces", "_strip_leading_space", "_utf8")

    def __init__(self, pieces: Sequence[bytes], *, strip_leading_space: bool) -> None:
        """Start a reply; `pieces` by id, U+2581 for a space, ids beyond it have no text."""
        self._pieces = pieces
        self._strip_leading_space = strip_leading_space
        self._at_start = True
        self._utf8 = _Utf8Decoder("replace")

    def feed(self, ids: Iterable[int]) -> str:
        """Return the text that these ids complete; may be empty."""
        pieces = self._pieces
        num_pieces = len(pieces)
        raw = b"".join([pieces[i] for i in ids if i < num_pieces])
        text = self._utf8.decode(raw).replace(SPACE, " ")
        if self._at_start and text:
            self._at_start = False
            if self._strip_leading_space:
                return text.removeprefix(" ")
        return text
