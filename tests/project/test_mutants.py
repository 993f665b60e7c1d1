"""The table of mutants fits the tree: every text to change is there, once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from scripts.mutants import Mutant, read_table
from tests.support.shared import ROOT


@pytest.mark.parametrize("mutant", read_table(), ids=lambda m: m.name)
def test_a_mutant_can_be_made(mutant: Mutant, tmp_path: Path) -> None:
    copy = tmp_path / mutant.file
    copy.parent.mkdir(parents=True)
    copy.write_text((ROOT / mutant.file).read_text("utf-8"), "utf-8")
    mutant.apply(tmp_path)
    ast.parse(copy.read_text("utf-8"))
    assert [test for test in mutant.tests if not (ROOT / test).is_file()] == []
