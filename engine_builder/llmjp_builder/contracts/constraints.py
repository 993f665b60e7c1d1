"""Constraints that annotations state beside a type: `Annotated[int, Range(1, 256)]`.

The codec checks them; schemas and the reference page of the custom resource show them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Range:
    """A number between two others, both included."""

    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Length:
    """Characters of a string. Every string has a limit: the cost of a rule is computed from it."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class OneOf:
    """A string out of a table."""

    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matches:
    """A string that a regular expression (RE2, anchored) describes."""

    pattern: str
    sentence: str
    """Message to a person where it does not match."""


@dataclass(frozen=True, slots=True)
class Items:
    """Largest number of items in a list; `key` is the field that tells its objects apart."""

    most: int
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Entries:
    """Largest number of entries in a map."""

    most: int


@dataclass(frozen=True, slots=True)
class IntegerOrString:
    """A string that may be written as an integer, such as a quantity."""


@dataclass(frozen=True, slots=True)
class Opaque:
    """An object of the Kubernetes API that is passed on; the API server checks it in the pod."""


@dataclass(frozen=True, slots=True)
class Timestamp:
    """RFC 3339, as Kubernetes writes times."""


@dataclass(frozen=True, slots=True)
class Forbidden:
    """A field that exists only so that it can be refused by name, with the reason."""

    reason: str


def find_violation(constraint: object, value: Any) -> str | None:
    """Return what the constraint demands of the value; None where it is met."""
    match constraint:
        case Range(least, most) if not least <= value <= most:
            return f"must be from {least} to {most}"
        case Length(least, most) if isinstance(value, str) and not least <= len(value) <= most:
            return f"must have {least} to {most} characters"
        case OneOf(choices) if value not in choices:
            return f"must be one of {', '.join(choices)}"
        case Matches(pattern, sentence) if re.fullmatch(pattern, value) is None:
            return sentence
        case Items(most) | Entries(most) if len(value) > most:
            return f"must have at most {most} entries"
        case _:
            return None
