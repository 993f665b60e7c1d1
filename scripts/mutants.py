"""Break the code on purpose, one line at a time, and say whether a test notices.

    python scripts/mutants.py [WORD ...]

Each mutant of tests/mutants.toml is applied to a copy of the tree, where its tests run. A mutant
that survives is a behaviour that nobody tests. With words, only mutants whose names have one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "tests" / "mutants.toml"
SOURCE_ROOTS = ("client", "cli", "engine_builder", "operator", "runtime")
FAILED = 1
"""pytest's exit code where tests ran and some failed; all others above 0 are no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One change for the worse."""

    name: str
    """What the code does no longer."""
    file: str
    old: str
    """Occurs once in the file."""
    new: str
    tests: list[str]
    """For pytest; fast ones, that need no cluster and no server."""

    def apply(self, tree: Path) -> str:
        """Change the file below `tree`; return its text as it was.

        Raises:
            ValueError: the text is not there, or not once.
        """
        path = tree / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} has {text.count(self.old)} times: {self.old}")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")
        return text


def read_table() -> list[Mutant]:
    """Return all mutants, in the table's order."""
    document = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return [Mutant(**row) for row in document["mutant"]]


def copy_tree(target: Path) -> None:
    """Copy what is tracked, as it is in the working tree."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def run_tests(tree: Path, tests: list[str]) -> int:
    """Return pytest's exit code."""
    path = os.pathsep.join(str(tree / name) for name in SOURCE_ROOTS)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(command, cwd=tree, env=environment, capture_output=True, check=False)
    return ran.returncode


def try_mutant(mutant: Mutant, tree: Path) -> str:
    """Return what became of a mutant: killed, survived, or why there is no answer."""
    before = mutant.apply(tree)
    try:
        code = run_tests(tree, mutant.tests)
    finally:
        (tree / mutant.file).write_text(before, encoding="utf-8")
    return {0: "SURVIVED", FAILED: "killed"}.get(code, f"NO ANSWER (pytest ended with {code})")


def main(words: list[str]) -> int:
    """Return 0 if every mutant was killed."""
    mutants = [m for m in read_table() if not words or any(word in m.name for word in words)]
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        tests = sorted({test for mutant in mutants for test in mutant.tests})
        if code := run_tests(tree, tests):
            print(f"without any mutant, pytest ends with {code}: {' '.join(tests)}")
            return 1
        for mutant in mutants:
            began = time.monotonic()
            verdicts.append(try_mutant(mutant, tree))
            print(f"{verdicts[-1]:9} {time.monotonic() - began:5.1f} s  {mutant.name}", flush=True)
    print(f"{verdicts.count('killed')} of {len(verdicts)} mutants killed")
    return 0 if set(verdicts) <= {"killed"} else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
