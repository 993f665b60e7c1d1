"""`llmjp demo` as a newcomer runs it: answers, again in seconds, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.triton.test_failures import is_alive, list_descendants, until

LLMJP = (sys.executable, "-m", "llmjp_cli")
TIMEOUT_S = 180


def demo(folder: Path) -> subprocess.Popen[str]:
    """The demo, started in a folder of its own."""
    return subprocess.Popen(
        [*LLMJP, "demo", "--store", str(folder / "store")],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def finish(process: subprocess.Popen[str]) -> str:
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, err
    return err


def test_the_demo_answers_and_finds_its_artefact_again(tmp_path: Path) -> None:
    first = finish(demo(tmp_path))
    for expected in ("東京", "パリ", "「龘」", "🐉"):
        assert expected in first
    assert "\N{REPLACEMENT CHARACTER}" not in first
    assert "time to first token" in first
    assert "(built in" in " ".join(first.split())
    again = finish(demo(tmp_path))
    assert "found by its key and verified" in " ".join(again.split())
    assert [p.name for p in (tmp_path / "store" / "artefacts").iterdir()] == re.findall(
        r"artefacts/([0-9a-f]{20}) ", " ".join(again.split())
    )[:1]


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=str
)
def test_whatever_interrupts_it_no_process_stays(tmp_path: Path, number: signal.Signals) -> None:
    process = demo(tmp_path)
    until(lambda: len(list_descendants(process.pid)) >= 2, "the server and its models run", 60)
    pids = {process.pid, *list_descendants(process.pid)}
    os.kill(process.pid, number)
    process.communicate(timeout=60)
    assert process.returncode != 0
    until(lambda: not any(map(is_alive, pids)), "no process is left")
