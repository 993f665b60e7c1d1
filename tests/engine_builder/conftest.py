"""Fixtures of the builder's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine_builder.checkpoints import Tiny, add_tokenizer, write_checkpoint
from tests.engine_builder.command_line import CommandLine


@pytest.fixture
def llmjp(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A whole small checkpoint with its tokenizer."""
    return add_tokenizer(write_checkpoint(tmp_path / "hf", Tiny()))
