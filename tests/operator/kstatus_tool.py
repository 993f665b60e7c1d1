"""kstatus itself, from sigs.k8s.io/cli-utils: what Flux, kpt and others make of an object."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.operator.model_bodies import Object

SOURCE = Path(__file__).parent / "kstatus"


def build_kstatus() -> Path:
    """Return the program, built where it is not there yet: a minute, once.

    Skips where there is no Go, or nothing may be built.
    """
    texts = b"".join((SOURCE / name).read_bytes() for name in ("go.mod", "go.sum", "main.go"))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmjp-serving"
    program = cache / f"kstatus-{hashlib.sha256(texts).hexdigest()[:12]}"
    if program.exists():
        return program
    if os.environ.get("LLMJP_NO_BUILD"):
        pytest.skip("kstatus is not built; `make test` builds it")
    go = shutil.which("go", path=f"{os.environ['PATH']}:/usr/local/go/bin")
    if go is None:
        pytest.skip("Go 1.26 or newer is needed to build kstatus (https://go.dev/dl)")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "kstatus.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _build(go, program)
    return program


def _build(go: str, program: Path) -> None:
    with tempfile.TemporaryDirectory(dir=program.parent) as folder:
        partial = Path(folder) / "kstatus"
        command = [go, "build", "-mod=readonly", "-trimpath", f"-o={partial}", "."]
        environ = {**os.environ, "CGO_ENABLED": "0"}
        done = subprocess.run(
            command, cwd=SOURCE, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        partial.rename(program)


def compute_statuses(program: Path, bodies: Iterable[Object]) -> list[Object]:
    """Return status and message of each object."""
    given = "\n".join(map(json.dumps, bodies))
    done = subprocess.run([program], input=given, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]
