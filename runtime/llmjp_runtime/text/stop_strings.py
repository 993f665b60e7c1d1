"""Stop strings, wherever tokens cut them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_runtime.text.errors import InvalidStops

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_STOP_CHARACTERS = 8192
"""Total length of the stop strings; bounds memory and the text held back."""


class StopMatcher:
    """Ends a reply before the first stop string in it, however its text is divided.

    First means: the one that begins earliest, even where another is complete sooner. Of those that
    begin at the same place the shortest ends the reply: the text is the same, a step earlier. Text
    is held back only while it may be the beginning of a stop string. An Aho-Corasick automaton: the
    time is linear in the text, whatever the stop strings.
    """

    __slots__ = ("_depth", "_fail", "_found_at", "_held", "_longest", "_next", "_state")

    def __init__(self, stops: Iterable[str] = ()) -> None:
        """Build the automaton; empty strings never match: clients send one for "no stop strings".

        Raises:
            InvalidStops: more than `MAX_STOP_CHARACTERS` in all.
        """
        words = {stop for stop in stops if stop}
        total = sum(map(len, words))
        if total > MAX_STOP_CHARACTERS:
            raise InvalidStops(
                f"stop_words: {total} characters in all, at most {MAX_STOP_CHARACTERS} allowed"
            )
        self._next: list[dict[str, int]] = [{}]
        self._depth = [0]
        self._longest = [0]  # length of the longest stop string that ends here
        for word in words:
            self._add(word)
        self._fail = self._build_failures()
        self._state = 0
        self._held = ""
        self._found_at: int | None = None  # where in _held the first complete stop string begins

    def feed(self, text: str) -> tuple[str, bool]:
        """Return (text to give, whether a stop string was met); feed nothing after a match."""
        if not self._next[0]:
            return text, False
        buffer = self._held + text
        for end, character in enumerate(text, start=len(self._held) + 1):
            self._step(character)
            state = self._state
            if self._longest[state]:
                begin = end - self._longest[state]
                self._found_at = begin if self._found_at is None else min(begin, self._found_at)
            if self._found_at is not None and end - self._depth[state] >= self._found_at:
                return buffer[: self._found_at], True
        cut = len(buffer) - self._depth[self._state]
        self._held = buffer[cut:]
        if self._found_at is not None:
            self._found_at -= cut
        return buffer[:cut], False

    def flush(self) -> tuple[str, bool]:
        """Return the text held back, once the reply is over; again up to the first stop string."""
        return self._held[: self._found_at], self._found_at is not None

    def _step(self, character: str) -> None:
        """Go to the longest suffix of the text so far that begins a stop string."""
        state = self._state
        while state and character not in self._next[state]:
            state = self._fail[state]
        self._state = self._next[state].get(character, 0)

    def _add(self, word: str) -> None:
        state = 0
        for character in word:
            state = self._next[state].setdefault(character, len(self._next))
            if state == len(self._next):
                self._next.append({})
                self._depth.append(0)
                self._longest.append(0)
        self._longest[state] = len(word)

    def _build_failures(self) -> list[int]:
        """Return each state's longest proper suffix; fill depths, pass stop ends on."""
        fail = [0] * len(self._next)
        queue = [0]
        for state in queue:  # grows while it is walked: breadth first
            for character, child in self._next[state].items():
                self._depth[child] = self._depth[state] + 1
                queue.append(child)
                if not state:
                    continue
                shorter = fail[state]
                while shorter and character not in self._next[shorter]:
                    shorter = fail[shorter]
                fail[child] = self._next[shorter].get(character, 0)
                self._longest[child] = self._longest[child] or self._longest[fail[child]]
        return fail
