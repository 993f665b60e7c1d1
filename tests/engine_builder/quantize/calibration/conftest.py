"""What modelopt itself finds, made once per run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine_builder.quantize.calibration.models import Texts, add_letters, written
from tests.engine_builder.quantize.modelopt import require_modelopt
from tests.support.shared import ROOT


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Other tests share the processor; the result does not depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A whole checkpoint, with a tokenizer that works."""
    return add_letters(written(tmp_path / "hf"))


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Two passages of seven and five tokens."""
    path = tmp_path / "texts.txt"
    path.write_text("いろはにほへと\n\nちりぬるを\n", encoding="utf-8")
    return path


def modelopt_amax(folder: Path, sources: dict[str, tuple[Path, str, Texts]]) -> dict[str, Any]:
    """modelopt's amax by name, one subprocess for all: of checkpoints, in a dtype, over texts."""
    requests = [
        {
            "source": str(source),
            "dtype": dtype,
            "calibration": texts,
            "kv_cache": True,
            "amax": str(folder / f"{i}.json"),
            "exports": [],
        }
        for i, (source, dtype, texts) in enumerate(sources.values())
    ]
    ran = subprocess.run(
        [sys.executable, ROOT / "tests" / "support" / "modelopt_export.py"],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(require_modelopt()), "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    return {name: json.loads((folder / f"{i}.json").read_text()) for i, name in enumerate(sources)}
