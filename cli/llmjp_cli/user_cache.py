"""This user's cache: what commands without a store keep between runs."""

from __future__ import annotations

import os
from pathlib import Path


def locate_user_cache() -> Path:
    """Return its folder (XDG Base Directory Specification)."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if root else Path.home() / ".cache") / "llmjp-serving"
