"""`scripts/check.sh` fails exactly when something that it runs fails."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.shared import ROOT

LIGHT = "tests/engine_builder/planning"
"""Among the arguments of the second process, and ignored by the first."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose lint and pytest end as the files of their names say."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "check.sh", tmp_path / "scripts" / "check.sh")
    write_program(tmp_path / "scripts" / "lint.sh", 'echo linted; exit "$(cat lint)"')
    write_program(
        tmp_path / ".venv" / "bin" / "python",
        f'case "$*" in *" {LIGHT}"*) exit "$(cat light)" ;; *) exit "$(cat torch)" ;; esac',
    )
    return tmp_path


def write_program(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("failing", [None, "lint", "light", "torch"])
def test_the_exit_code_is_that_of_what_failed(checkout: Path, failing: str | None) -> None:
    for name in ("lint", "light", "torch"):
        (checkout / name).write_text("3" if name == failing else "0")
    done = subprocess.run(
        [checkout / "scripts" / "check.sh"], capture_output=True, text=True, check=False
    )
    assert done.returncode == (0 if failing is None else 3), done.stderr
    assert "linted" in done.stdout
