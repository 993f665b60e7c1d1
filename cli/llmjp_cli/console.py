"""Consoles and formats that several commands share."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

PIPED_WIDTH = 160
"""Columns where no terminal says how many it has."""


def open_console(piped_width: int = PIPED_WIDTH) -> Console:
    """Return a console on stdout: as wide as the terminal, or `piped_width` without one."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else piped_width)


def build_table(*columns: str, padding: int = 2, show_header: bool = True) -> Table:
    """Return a table without lines; columns may be added."""
    return Table(
        *columns, box=None, pad_edge=False, padding=(0, padding, 0, 0), show_header=show_header
    )


def format_duration(seconds: float) -> str:
    """Format seconds as `6:20` or `1:06:20`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
