"""How much of a long test to run: a reduced count in `make test`, all of it in `make soak`."""

from __future__ import annotations

import os

SOAK = os.environ.get("LLMJP_SOAK") == "1"


def count(reduced: int, full: int) -> int:
    """How often to repeat something."""
    return full if SOAK else reduced
