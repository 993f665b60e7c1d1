"""What modelopt wrote, made once per run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine_builder.quantize.modelopt import export_all


@pytest.fixture(scope="session")
def modelopt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of `CASES`, as `export_all` describes it."""
    return export_all(tmp_path_factory.mktemp("modelopt"))
