"""`llmjp serve` before anything is served: which backend, and what it cannot do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import engine_artefact
from tests.support.triton import EXAMPLE, build_artefact


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_artefact(EXAMPLE, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def engine(ranks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engine_artefact(ranks, tmp_path_factory.mktemp("engine") / "artefact")


def serve(artefact: Path, *arguments: Any) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "llmjp_cli", "serve", str(artefact), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (("--backend", "vllm"), 3, "is of kind ranks, but backend vllm serves unified"),
        (("--backend", "tensorrt"), 3, "is of kind ranks, but backend tensorrt serves engine"),
        (("--backend", "pytorch"), 3, "is of kind ranks, but backend pytorch serves unified"),
        (("--kv-cache-fraction", "0.5"), 2, "--kv-cache-fraction is for backend tensorrt and"),
        (("--tp", "2"), 2, "--tp is for backend pytorch and vllm, but this artefact is"),
    ],
)
def test_ranks(ranks: Path, arguments: tuple[str, ...], exit_code: int, says: str) -> None:
    status, line = serve(ranks, *arguments)
    assert says in line
    assert status == exit_code


def test_a_plain_checkpoint_is_judged_before_vllm_is_started(tmp_path: Path) -> None:
    for path in EXAMPLE.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["rope_scaling"] = {"rope_type": "dynamic", "factor": 2.0}
    (tmp_path / "config.json").write_text(json.dumps(config))
    status, line = serve(tmp_path, "--backend", "vllm")
    assert "dynamic" in line
    assert status == 6


def test_without_vllm_its_backend_is_refused_before_anything_starts() -> None:
    status, line = serve(EXAMPLE, "--backend", "vllm")
    assert "backend vllm needs vLLM, which is not installed here" in line
    assert status == 6
    status, line = serve(EXAMPLE)
    assert "no manifest.json" in line
    assert "backend vllm serves a Hugging Face folder as it is" in line
    assert status == 3


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        ((), 6, "no backend tensorrtllm, which runs TensorRT engines: run inside nvcr.io"),
        (("--device", "cpu"), 2, "--device is for backend torch, but this artefact is served by"),
        (("--backend", "torch"), 3, "is of kind engine, but backend torch serves ranks"),
        (("--max-batch-size", "99"), 2, "max_batch_size is 99, but the engine was built for 1 to"),
        (("--max-context", "4096"), 2, "max_context is 4096, but the engine was built for 1 to"),
    ],
)
def test_an_engine(engine: Path, arguments: tuple[str, ...], exit_code: int, says: str) -> None:
    status, line = serve(engine, *arguments)
    assert says in line
    assert status == exit_code
