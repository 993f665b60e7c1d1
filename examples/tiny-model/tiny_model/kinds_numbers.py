"""Kinds about numbers: sums and differences, the same in kanji, counting, days and months."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .numerals import kanji
from .qa import Phrasing, Sample, Split, digest, one, phrased, pick, split_of
from .tables import read_lines, read_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SUM_PHRASINGS = read_pairs("numbers/sum_phrasings")
DIFFERENCE_PHRASINGS = read_pairs("numbers/difference_phrasings")
PRODUCT_PHRASINGS = read_pairs("numbers/product_phrasings")


def sum_split(a: int, b: int) -> Split:
    """The set of a pair of numbers; the same in either order and in every notation."""
    return split_of("sum", min(a, b), max(a, b))


def difference_split(a: int, b: int) -> Split:
    """The set of `a` - `b`."""
    return split_of("difference", a, b)


@dataclass(frozen=True, slots=True)
class Calculation:
    """Two numbers, what comes out, and the set the pair belongs to."""

    a: int
    b: int
    c: int
    split: Split

    def asked(self, kind: str, phrasing: Phrasing, write: Callable[[int], str] = str) -> Sample:
        """The sample that asks for `c`, its numbers written by `write`."""
        numbers = {"a": write(self.a), "b": write(self.b), "c": write(self.c)}
        question, answer = (text.format(**numbers) for text in phrasing)
        return one(kind, question, answer, self.split)


def addition(a: int, b: int) -> Calculation:
    """`a` + `b`."""
    return Calculation(a, b, a + b, sum_split(a, b))


def subtraction(a: int, b: int) -> Calculation:
    """`a` - `b`."""
    return Calculation(a, b, a - b, difference_split(a, b))


def _twice(kind: str, phrasings: Sequence[Phrasing], calculation: Calculation) -> Iterator[Sample]:
    """The calculation in two of the five phrasings."""
    first = digest("phrasing", kind, calculation.a, calculation.b)
    for index in (first % 5, (first + 1 + first // 5 % 4) % 5):
        yield calculation.asked(kind, phrasings[index])


def sums() -> Iterator[Sample]:
    """0+0 to 99+99, two phrasings each."""
    for a in range(100):
        for b in range(100):
            yield from _twice("足し算", SUM_PHRASINGS, addition(a, b))


def differences() -> Iterator[Sample]:
    """All differences of numbers under 100 that are not negative, two phrasings each."""
    for a in range(100):
        for b in range(a + 1):
            yield from _twice("引き算", DIFFERENCE_PHRASINGS, subtraction(a, b))


def kanji_calculations() -> Iterator[Sample]:
    """Sums and differences of numbers up to 50, written in kanji, as they are spoken."""
    spoken = (1, 3, 4)
    added = [SUM_PHRASINGS[i] for i in spoken]
    taken = [DIFFERENCE_PHRASINGS[i] for i in spoken]
    for a in range(1, 51):
        for b in range(1, 51):
            yield addition(a, b).asked("漢数字", pick(added, "kanji", a, b), kanji)
            if a > b:
                yield subtraction(a, b).asked("漢数字", pick(taken, "kanji", a, b), kanji)


def products() -> Iterator[Sample]:
    """The multiplication table, in both notations; one phrasing of each product is held out."""
    table = [(a, b, a * b) for a in range(1, 10) for b in range(1, 10)]
    for write in (str, kanji):
        facts = [tuple(write(number) for number in row) for row in table]
        yield from phrased("掛け算", facts, PRODUCT_PHRASINGS)


def counting() -> Iterator[Sample]:
    """Counting up or down, one number on each line."""
    for start in range(31):
        for length in range(3, 9):
            up = [start + i for i in range(length)]
            for numbers in (up, up[::-1]):
                first, last = numbers[0], numbers[-1]
                split = split_of("counting", first, last)
                answer = "\n".join(str(number) for number in numbers)
                question = f"{first}から{last}まで、一行に一つずつ数えてください。"
                yield one("数え上げ", question, answer, split)


DAYS = tuple(f"{day}曜日" for day in "月火水木金土日")
MONTHS = tuple(f"{kanji(month)}月" for month in range(1, 13))
OLD_MONTHS = read_lines("numbers/old_months")
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
SEASONS = ("冬", "冬", "春", "春", "春", "夏", "夏", "夏", "秋", "秋", "秋", "冬")

MONTH_PHRASINGS = read_pairs("numbers/month_phrasings")


MOVED_PHRASINGS = read_pairs("numbers/moved_phrasings")


def _moved(names: tuple[str, ...], unit: str, asked: str) -> Iterator[Sample]:
    """So many steps after or before each of the names, which come round again."""
    facts = [
        (name, f"{kanji(step)}{unit}{way}", asked, names[(index + sign * step) % len(names)])
        for index, name in enumerate(names)
        for step in range(1, len(names))
        for way, sign in (("後", 1), ("前", -1))
    ]
    yield from phrased("暦", facts, MOVED_PHRASINGS)


def calendar() -> Iterator[Sample]:
    """Days of the week and months: what comes before and after, seasons, lengths, old names."""
    yield from _moved(DAYS, "日", "何曜日")
    yield from _moved(MONTHS, "か月", "何月")
    numbers = [str(days) for days in MONTH_DAYS]
    yield from phrased(
        "暦", list(zip(MONTHS, SEASONS, numbers, OLD_MONTHS, strict=True)), MONTH_PHRASINGS
    )
    for index, day in enumerate(DAYS):
        for length in range(2, 8):
            run = [DAYS[(index + i) % 7] for i in range(length)]
            question = f"{day}から{kanji(length)}日間の曜日を一行ずつ書いてください。"
            yield one("暦", question, "\n".join(run), split_of("days", day, length))
