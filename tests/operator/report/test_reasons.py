"""The reasons of conditions: all are documented, and those that need a person are warnings."""

from __future__ import annotations

import re

import pytest

from llmjp_operator.report.notices import WARNINGS
from tests.support.shared import ROOT

SOURCES = ("decide/validation", "report/conditions", "decide/target", "report/status")
PROBLEM = re.compile(r'Problem\(\s*reason="([A-Z]\w+)"')
VERDICT = re.compile(r'Verdict\(\s*"\w+",\s*(?:holds=)?\w+,\s*(?:reason=)?"([A-Z]\w+)"')
DONE_BY_JOBS = {f"{verb}{how}" for verb in ("Resolve", "Build") for how in ("Failed", "Retrying")}


def code() -> str:
    folder = ROOT / "operator" / "llmjp_operator"
    return "\n".join((folder / f"{name}.py").read_text("utf-8") for name in SOURCES)


def documented() -> set[str]:
    """First cells of the tables in docs/operator.md."""
    text = (ROOT / "docs" / "operator.md").read_text("utf-8")
    rows = re.findall(r"^\| ((?:`[A-Z]\w+`(?:, )?)+) \|", text, re.MULTILINE)
    return {word for row in rows for word in re.findall(r"`(\w+)`", row)}


@pytest.mark.parametrize(
    "reason", sorted({*PROBLEM.findall(code()), *VERDICT.findall(code()), *DONE_BY_JOBS, *WARNINGS})
)
def test_a_reason_is_documented(reason: str) -> None:
    assert reason in documented()


def test_what_stands_in_the_way_is_a_warning() -> None:
    assert set(PROBLEM.findall(code())) <= WARNINGS


def test_failures_of_jobs_are_warnings() -> None:
    assert DONE_BY_JOBS <= WARNINGS
