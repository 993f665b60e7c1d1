"""Third-party reference data beside the checkout: never part of the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""


def shared(name: str) -> Path:
    """The folder or file `name` of the reference data; skips the test where it is missing."""
    path = ROOT.parent / "shared" / name
    if not path.exists():
        pytest.skip(f"reference data missing: ../shared/{name}")
    return path
