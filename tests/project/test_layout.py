"""Rules about the tree itself."""

from __future__ import annotations

import ast
import subprocess

import pytest

from tests.support.shared import ROOT

SOURCE_ROOTS = ("operator", "engine_builder", "runtime", "client", "cli")
MAX_LINES = 400
MAX_FUNCTION_LINES = 60


def tracked(pattern: str) -> list[str]:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", pattern],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.mark.parametrize("root", SOURCE_ROOTS)
def test_a_source_root_is_not_a_package(root: str) -> None:
    # operator/__init__.py would shadow the standard library's `operator`.
    assert not (ROOT / root / "__init__.py").exists()


def test_python_files_are_short() -> None:
    long = {
        name: lines
        for name in tracked("*.py")
        if (lines := len((ROOT / name).read_text("utf-8").splitlines())) > MAX_LINES
    }
    assert not long


def test_functions_are_short() -> None:
    long = {}
    for name in tracked("*.py"):
        for node in ast.walk(ast.parse((ROOT / name).read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES and not name.startswith(("tests/", "cli/")):
                    long[f"{name}:{node.name}"] = lines
    assert not long


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils", "util", "helpers", "common", "misc"}
    assert not [name for name in tracked("*.py") if name.split("/")[-1][:-3] in drawers]


def test_only_the_example_model_is_large() -> None:
    large = [name for name in tracked("*") if (ROOT / name).stat().st_size > 3_000_000]
    assert set(large) <= {"examples/tiny-model/checkpoint/model.safetensors"}
