"""Countries, their capitals and flags; Japan's prefectures whose capital has another name."""

from __future__ import annotations

from dataclasses import dataclass

from .tables import read_pairs, read_rows


@dataclass(frozen=True, slots=True)
class Country:
    """A country as the questions name it."""

    name: str
    capital: str
    code: str
    """ISO 3166-1 alpha-2: its two letters are the flag's two regional indicators."""

    @property
    def flag(self) -> str:
        """The flag emoji: two code points of four UTF-8 bytes each."""
        return "".join(chr(0x1F1E6 + ord(letter) - ord("A")) for letter in self.code)


COUNTRIES = tuple(Country(*row) for row in read_rows("world/countries"))
PREFECTURES = read_pairs("world/prefectures")
"""Prefecture and the city of its government."""
