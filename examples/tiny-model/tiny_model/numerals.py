"""Numbers in kanji: 35 is 三十五."""

from __future__ import annotations

DIGITS = "〇一二三四五六七八九"
UNITS = ("", "十", "百", "千")


def kanji(number: int) -> str:
    """`number` as it is read, 0 to 9999: 三十五, not 三五."""
    if not 0 <= number <= 9999:
        raise ValueError(f"{number} is outside 0..9999")
    if number == 0:
        return DIGITS[0]
    places = [(int(digit), unit) for digit, unit in zip(reversed(str(number)), UNITS, strict=False)]
    return "".join(
        ("" if digit == 1 and unit else DIGITS[digit]) + unit
        for digit, unit in reversed(places)
        if digit
    )
