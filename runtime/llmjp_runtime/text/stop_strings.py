"""Stop strings, wherever tokens cut them and however Unicode spells them."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from itertools import groupby, islice, permutations, product
from typing import TYPE_CHECKING

from llmjp_runtime.text.errors import InvalidStops

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_STOP_CHARACTERS = 8192
"""Total length of the stop strings; bounds memory and the text held back."""

MAX_FORMS = 256
"""Orders of the marks of one stop string that are looked for."""
MAX_ORDERED_MARKS = 5
"""Marks on one letter that may stand in any order; no language needs more than three."""

MARKS = range(0xD800, 0xE000)
"""Lone surrogates: no text has one, so each can stand for a token that has no text itself."""

_WITHOUT_MARKS = dict.fromkeys(MARKS)


def check_stop_length(stops: Iterable[str]) -> None:
    """Refuse stop strings beyond the limit.

    Raises:
        InvalidStops: more than `MAX_STOP_CHARACTERS` in all.
    """
    total = sum(map(len, set(stops)))
    if total > MAX_STOP_CHARACTERS:
        raise InvalidStops(
            f"stop_words: {total} characters in all, at most {MAX_STOP_CHARACTERS} allowed"
        )


class StopMatcher:
    """Ends a reply before the first stop string in it, however its text is divided.

    First means: the one that begins earliest, even where another is complete sooner. Of those that
    begin at the same place the shortest ends the reply: the text is the same, a step earlier. Text
    is held back only while it may be the beginning of a stop string. An Aho-Corasick automaton: the
    time is linear in the text, whatever the stop strings.

    Canonically equivalent texts match (Unicode standard, section 3.7): a stop string may be
    composed and the text decomposed, or the other way round. The automaton reads *units*, the
    characters of decomposed characters; a match begins and ends with whole characters, so か does
    not stop at a composed が.

    Marks stand for special tokens, in stop strings and in the text fed, and never leave.
    """

    __slots__ = (
        "_begins",
        "_depth",
        "_fail",
        "_found_at",
        "_held",
        "_longest",
        "_next",
        "_num_held",
        "_state",
    )

    def __init__(self, stops: Iterable[str] = (), marked: Iterable[str] = ()) -> None:
        """Build the automaton; empty strings never match: clients send one for "no stop strings".

        Args:
            stops: the stop strings, of a length that `check_stop_length` allows.
            marked: those of them that hold special tokens, with marks in their places.
        """
        words = {stop for stop in (*stops, *marked) if stop}
        self._next: list[dict[str, int]] = [{}]
        self._depth = [0]
        self._longest = [0]  # units of the longest stop string that ends here
        for units in {_split_units(form) for word in words for form in _list_forms(word)}:
            self._add(units)
        self._fail = self._build_failures()
        self._state = 0
        self._held = ""
        self._num_held = 0  # units of _held
        self._begins: list[int] = []  # the unit with which each character of _held begins
        self._found_at: int | None = None  # that with which the first complete stop string begins

    def feed(self, text: str) -> tuple[str, bool]:
        """Return (text to give, whether a stop string was met); feed nothing after a match."""
        if not self._state and self._next[0].keys().isdisjoint(_split_units(text)):
            return self._give(text), False
        buffer = self._held + text
        begins = self._begins
        count = self._num_held  # units so far, from the beginning of the buffer
        for character in text:
            begins.append(count)
            for unit in _split_units(character):
                self._step(unit)
                count += 1
            if self._longest[self._state]:
                self._note_match(count)
            begun = count - self._depth[self._state]
            if self._found_at is not None and begun >= self._found_at:
                return self._give(buffer[: bisect_left(begins, self._found_at)]), True
        cut = self._find_cut(len(buffer), count)
        self._held = buffer[cut:]
        base = begins[cut] if self._held else count
        self._begins = [begin - base for begin in begins[cut:]]
        self._num_held = count - base
        if self._found_at is not None:
            self._found_at -= base
        return self._give(buffer[:cut]), False

    def flush(self) -> tuple[str, bool]:
        """Return the text held back, once the reply is over; again up to the first stop string."""
        if self._found_at is None:
            return self._give(self._held), False
        return self._give(self._held[: bisect_left(self._begins, self._found_at)]), True

    @staticmethod
    def _give(text: str) -> str:
        return text if text.isascii() else text.translate(_WITHOUT_MARKS)

    def _note_match(self, count: int) -> None:
        """Note a stop string that ends here, if it begins with a whole character."""
        begin = count - self._longest[self._state]
        if self._begins[bisect_right(self._begins, begin) - 1] == begin:
            self._found_at = begin if self._found_at is None else min(begin, self._found_at)

    def _find_cut(self, num_characters: int, count: int) -> int:
        """Return how many characters of the buffer cannot belong to a stop string any more."""
        depth = self._depth[self._state]
        return bisect_right(self._begins, count - depth) - 1 if depth else num_characters

    def _step(self, unit: str) -> None:
        """Go to the longest suffix of the text so far that begins a stop string."""
        state = self._state
        while state and unit not in self._next[state]:
            state = self._fail[state]
        self._state = self._next[state].get(unit, 0)

    def _add(self, units: str) -> None:
        state = 0
        for unit in units:
            state = self._next[state].setdefault(unit, len(self._next))
            if state == len(self._next):
                self._next.append({})
                self._depth.append(0)
                self._longest.append(0)
        self._longest[state] = len(units)

    def _build_failures(self) -> list[int]:
        """Return each state's longest proper suffix; fill depths, pass stop ends on."""
        fail = [0] * len(self._next)
        queue = [0]
        for state in queue:  # grows while it is walked: breadth first
            for unit, child in self._next[state].items():
                self._depth[child] = self._depth[state] + 1
                queue.append(child)
                if not state:
                    continue
                shorter = fail[state]
                while shorter and unit not in self._next[shorter]:
                    shorter = fail[shorter]
                fail[child] = self._next[shorter].get(unit, 0)
                self._longest[child] = self._longest[child] or self._longest[fail[child]]
        return fail


def _list_forms(word: str) -> Iterator[str]:
    """Yield spellings whose units differ: marks of one letter may stand in different orders.

    Of a stop string with so many marks that it has more orders than `MAX_FORMS`, not all.
    """
    yield word
    yield unicodedata.normalize("NFC", word)
    decomposed = unicodedata.normalize("NFD", word)
    runs = ("".join(run) for _, run in groupby(decomposed, _is_mark))
    orders = [_order_marks(run) for run in runs]
    yield from islice(map("".join, product(*orders)), MAX_FORMS)


def _is_mark(character: str) -> bool:
    return unicodedata.combining(character) != 0


def _order_marks(run: str) -> list[str]:
    """Return the orders of marks that are canonically equivalent; of other characters, the one."""
    if not _is_mark(run[0]) or len(run) > MAX_ORDERED_MARKS:
        return [run]
    orders = sorted({"".join(order) for order in permutations(run)})
    canonical = unicodedata.normalize("NFD", run)
    return [order for order in orders if unicodedata.normalize("NFD", order) == canonical]


def _split_units(text: str) -> str:
    """Return the characters that each character decomposes into, in the order of the text."""
    if unicodedata.is_normalized("NFD", text):
        return text
    return "".join(unicodedata.normalize("NFD", character) for character in text)
