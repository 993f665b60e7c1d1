"""Processes measured from outside: wall time, and the peak of anonymous memory."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

SAMPLE_S = 0.01


@dataclass
class Series:
    """One thing measured, over all rounds."""

    name: str
    seconds: list[float] = field(default_factory=list)
    rss_anon_bytes: int = 0


def timed(command: list[str]) -> tuple[float, int]:
    """Wall time in seconds and peak RssAnon in bytes of a process."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        peak = 0
        try:
            while process.poll() is None:
                peak = max(peak, rss_anon(process.pid))
                time.sleep(SAMPLE_S)
        except BaseException:  # interrupted: what it writes is about to be removed
            process.kill()
            raise
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"failed with {process.returncode}: {' '.join(command)}")
    return seconds, peak


def rss_anon(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def measure(series: Series, command: list[str], out: Path) -> None:
    """One more value; the command makes the folder `out`, which is removed again."""
    os.sync()
    seconds, peak = timed(command)
    series.seconds.append(seconds)
    series.rss_anon_bytes = max(series.rss_anon_bytes, peak)
    shutil.rmtree(out)


def ratio(one: Series, other: Series) -> float:
    """The median over rounds of one / other."""
    return statistics.median(a / b for a, b in zip(one.seconds, other.seconds, strict=True))


def warm(folder: Path) -> None:
    """Into the page cache: everything measured reads from memory."""
    for path in folder.iterdir():
        with path.open("rb", buffering=0) as file:
            while file.read(16 << 20):
                pass


def cool(folder: Path) -> None:
    """Out of the page cache: everything measured reads from the disk. It must be written there."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def copy_command(source: Path, out: Path) -> list[str]:
    script = 'cp -r --reflink=never "$0" "$1" && sync "$1"/*'
    return ["/bin/sh", "-c", script, str(source), str(out)]


def convert_command(source: Path, out: Path, tp: int) -> list[str]:
    run = "from llmjp_cli.__main__ import main; main()"
    options = ["--tp", str(tp), "--dtype", "bfloat16"]
    return [sys.executable, "-c", run, "convert", str(source), str(out), *options]
