"""The stand-in compiler on PATH, and specs, models and GPUs to compile with."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.shared import ROOT, shared

BIN = ROOT / "tests" / "support" / "trtllm_build" / "bin"


@pytest.fixture
def recording() -> Path:
    """The recorded arguments of `trtllm-build`."""
    return shared("trtllm-golden") / "trtllm_build_args_1.3.0rc3.json"


@pytest.fixture
def standin(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`trtllm-build` on PATH is the stand-in, which fails as LLMJP_STANDIN_FAILURE says."""
    path = os.pathsep.join([str(BIN), str(Path(sys.executable).parent), os.environ["PATH"]])
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("LLMJP_STANDIN_ARGUMENTS", str(recording))
    for name in ("FAILURE", "GPUS", "SM", "VERSION", "MEMORY_EVENTS"):
        monkeypatch.delenv(f"LLMJP_STANDIN_{name}", raising=False)
