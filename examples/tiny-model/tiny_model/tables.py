"""Tables of questions and answers: one file each in `questions/`, one row a line."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "questions"
_ESCAPED = {"\\n": "\n", "\\t": "\t", "\\\\": "\\"}


def read_rows(name: str) -> tuple[tuple[str, ...], ...]:
    r"""Return the rows of `questions/<name>.tsv`.

    Cells are separated by tabs; `\n`, `\t` and `\\` in a cell stand for newline, tab and backslash.
    """
    text = (FOLDER / f"{name}.tsv").read_text(encoding="utf-8")
    return tuple(
        tuple(_unescape(cell) for cell in line.split("\t"))
        for line in text.removesuffix("\n").split("\n")
    )


def read_lines(name: str) -> tuple[str, ...]:
    """Return the rows of a table with one column."""
    return tuple(line for (line,) in read_rows(name))


def read_pairs(name: str) -> tuple[tuple[str, str], ...]:
    """Return the rows of a table with two columns."""
    return tuple((left, right) for left, right in read_rows(name))


def _unescape(cell: str) -> str:
    return re.sub(r"\\[nt\\]", lambda match: _ESCAPED[match[0]], cell)
