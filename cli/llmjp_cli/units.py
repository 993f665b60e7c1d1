"""Sizes and durations as text."""

from __future__ import annotations

import re

import typer

_UNITS = {"": 1, **{f"{p}": 1000**i for i, p in enumerate("KMGT", 1)}}
_UNITS |= {f"{p}i": 1024**i for i, p in enumerate("KMGT", 1)}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_size(text: str) -> int:
    """Return bytes: `500G`, `1.5Ti`, `1000`.

    Raises:
        typer.BadParameter: anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?", text)
    if match is None:
        raise typer.BadParameter(f"{text!r}: expected a size such as 500G or 1.5Ti")
    return int(float(match[1]) * _UNITS[match[2] or ""])


def parse_duration(text: str) -> float:
    """Return seconds: `30d`, `12h`, `90m`.

    Raises:
        typer.BadParameter: anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if match is None:
        raise typer.BadParameter(f"{text!r}: expected a time such as 30d, 12h or 90m")
    return float(match[1]) * _SECONDS[match[2]]


def format_bytes(number: int) -> str:
    """Format bytes as `1.5 GB`."""
    value, unit = float(number), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{number} B" if unit == "B" else f"{value:.1f} {unit}"


def format_time_since(seconds: float) -> str:
    """Format a time in the past as `3 days ago`."""
    for name, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {name} ago"
    return "just now"
