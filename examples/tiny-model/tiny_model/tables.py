"""Tables of facts as they are written in the sources: compact, and easy to read and extend."""

from __future__ import annotations


def words(table: str) -> tuple[str, ...]:
    """The words of a table, cut at spaces and line ends."""
    return tuple(table.split())


def pairs(table: str) -> tuple[tuple[str, str], ...]:
    """The entries of a table written `left right/left right` over several lines."""
    return tuple(
        (left, right)
        for line in table.split("\n")
        if line
        for left, right in [entry.split() for entry in line.split("/")]
    )


def entries(table: str) -> tuple[tuple[str, str], ...]:
    """The lines of a table written `term|text`; a backslash and n stand for a newline."""
    return tuple(
        (term, text.replace("\\n", "\n"))
        for line in table.split("\n")
        if line
        for term, text in [line.split("|")]
    )


def lines(table: str) -> tuple[str, ...]:
    """The lines of a table; a backslash and n stand for a newline."""
    return tuple(line.replace("\\n", "\n") for line in table.split("\n") if line)
