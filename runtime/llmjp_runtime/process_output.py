"""How each process of a server writes its log."""

from __future__ import annotations

import logging
import sys


def prepare_output() -> None:
    """Set up logging, and output in UTF-8 that never fails."""
    for stream in (sys.stdout, sys.stderr):
        # The stub's embedded interpreter starts with ASCII whatever PYTHONUTF8 says.
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
