"""Calibrations in a store: found again, gone on with after a kill, refused for a reason."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from llmjp_builder.contracts.errors import (
    BadTexts,
    BuilderError,
    InvalidSpec,
    MissingFile,
    NotEnoughHostMemory,
    UnsupportedRequest,
)
from llmjp_builder.contracts.spec import Progress, Step
from llmjp_builder.quantize.calibration import CalibrationResult, calibrate
from llmjp_builder.store.locks import locked
from tests.engine_builder.checkpoints import tree
from tests.engine_builder.quantize.calibration.models import MODEL


def found(source: Path, texts: Path | None, store: Path, **options: Any) -> CalibrationResult:
    return calibrate(source, texts=texts, store=store, device="cpu", **options)


def test_what_is_there_is_found(source: Path, texts: Path, tmp_path: Path) -> None:
    store, shown = tmp_path / "store", list[Progress]()
    first = found(source, texts, store, on_progress=shown.append)
    assert {p.step for p in shown} == {Step.CALIBRATE}
    assert any("2 texts, 12 tokens" in p.message and p.percent == 100 for p in shown)
    assert first.path.parent == store / "calibrations"
    assert set(tree(first.path)) == {"amax.json", "calibration.json"}
    assert list(first.path.parent.iterdir()) == [first.path]
    shown.clear()
    assert found(source, texts, store, on_progress=shown.append) == first
    assert not any("texts" in p.message for p in shown)


def test_equal_tokens_are_one_calibration(source: Path, texts: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = found(source, texts, store)
    other = tmp_path / "other.txt"
    other.write_text("いろはにほへと\n%%\nちりぬるを", encoding="utf-8")
    assert found(source, other, store).path == first.path
    assert found(source, texts, store, max_tokens=7).path == first.path


@pytest.mark.parametrize("change", [{"max_tokens": 6}, {"dtype": "float16"}])
def test_what_gives_another_amax_has_another_key(
    source: Path, texts: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    store = tmp_path / "store"
    paths = {found(source, texts, store).path, found(source, texts, store, **change).path}
    assert len(paths) == 2


def test_another_model_has_another_key(source: Path, texts: Path, tmp_path: Path) -> None:
    first = found(source, texts, tmp_path / "store")
    weights = source / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert found(source, texts, tmp_path / "store").path != first.path


def test_sums_that_are_known_are_not_computed_again(
    source: Path, texts: Path, tmp_path: Path
) -> None:
    known = {"config.json": "0" * 64, "model.safetensors": "1" * 64, "tokenizer.json": "2" * 64}
    got = found(source, texts, tmp_path / "store", source_sha256=known)
    inputs = json.loads((got.path / "calibration.json").read_text())["inputs"]
    assert inputs["source_sha256"] == {n: known[n] for n in ("config.json", "model.safetensors")}


@pytest.mark.parametrize("text", ["", "{}", '{"activation_amax": {}}'])
def test_a_damaged_result_is_made_again(
    source: Path, texts: Path, tmp_path: Path, text: str
) -> None:
    first = found(source, texts, tmp_path / "store")
    before = tree(first.path)
    (first.path / "amax.json").write_text(text)
    assert found(source, texts, tmp_path / "store") == first
    assert tree(first.path) == before


def test_the_built_in_texts(source: Path, tmp_path: Path) -> None:
    got = found(source, None, tmp_path / "store", max_tokens=2)
    assert len(got.amax.activations) == 7 * MODEL.layers
    assert len(got.amax.kv) == MODEL.layers


KILLED = """
import os, signal, sys
import llmjp_builder.quantize.calibration.layerwise, tokenizers
from pathlib import Path
from llmjp_builder.quantize.calibration import calibrate
source, texts, store, n = *map(Path, sys.argv[1:4]), int(sys.argv[4])
count = 0
# Dies by SIGKILL at the n-th system call that the file system sees; n = 0 counts them.
def hook(event, arguments):
    global count
    if event in {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}:
        count += 1
        if count == n:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
calibrate(source, texts=texts, store=store, device="cpu")
print(count)
"""


def killed(source: Path, texts: Path, store: Path, n: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", KILLED, str(source), str(texts), str(store), str(n)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.slow
def test_a_killed_calibration_is_gone_on_with(source: Path, texts: Path, tmp_path: Path) -> None:
    whole = tree(found(source, texts, tmp_path / "reference").path)
    total = int(killed(source, texts, tmp_path / "counted", 0).stdout)
    for n in (total * 5 // 10, total * 6 // 10, total * 7 // 10, total - 3, total):
        store = tmp_path / f"store{n}"
        assert killed(source, texts, store, n).returncode == -signal.SIGKILL
        got = found(source, texts, store)
        assert tree(got.path) == whole
        assert list(got.path.parent.iterdir()) == [got.path]


def test_another_process_that_calibrates_is_waited_for(
    source: Path, texts: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    first = found(source, texts, store)
    with ExitStack() as other:
        lock = store / "locks" / f"calibration-{first.path.name}"
        other.enter_context(locked(lock, on_wait=None))
        waited: list[Progress] = []

        def show(progress: Progress) -> None:
            if "another process" in progress.message and not waited:
                waited.append(progress)
                other.close()

        assert found(source, texts, store, on_progress=show) == first
    assert waited


def without(name: str) -> Any:
    return lambda source: (source / name).unlink()


def changed(**members: Any) -> Any:
    def change(source: Path) -> None:
        path = source / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | members))

    return change


def nothing(_: Path) -> None:
    pass


def no_tokenizer_but_json(source: Path) -> None:
    (source / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}}')


@pytest.mark.parametrize(
    ("change", "options", "error", "words"),
    [
        (without("tokenizer.json"), {}, MissingFile, "no tokenizer.json"),
        (no_tokenizer_but_json, {}, UnsupportedRequest, "decoder"),
        (
            changed(vocab_size=41, rope_scaling={"rope_type": "longrope"}),
            {},
            UnsupportedRequest,
            "longrope",
        ),
        (nothing, {"max_tokens": 0}, InvalidSpec, "1 to 64"),
        (nothing, {"max_tokens": 65}, InvalidSpec, "not 65"),
        (nothing, {"texts": Path("missing.txt")}, MissingFile, "missing.txt"),
    ],
)
def test_refused(
    source: Path,
    texts: Path,
    tmp_path: Path,
    change: Any,
    options: dict[str, Any],
    error: type[BuilderError],
    words: str,
) -> None:
    change(source)
    arguments = {"texts": texts} | options
    with pytest.raises(error, match=words):
        found(source, store=tmp_path / "store", **arguments)
    assert not (tmp_path / "store").exists()


def test_texts_without_tokens(source: Path, tmp_path: Path, texts: Path) -> None:
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"Regex": "."}, "content": ""}
    (source / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(BadTexts, match="no tokens"):
        found(source, texts, tmp_path / "store")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu(source: Path, texts: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedRequest, match="no GPU"):
        calibrate(source, texts=texts, store=tmp_path / "store", device="cuda")


def test_out_of_memory(
    source: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def layer(*_: Any) -> None:
        torch.empty(1 << 60)  # what torch says when the system has no more

    monkeypatch.setattr(
        "llmjp_builder.quantize.calibration.layer_weights.LayerWeights.read_layer", layer
    )
    with pytest.raises(NotEnoughHostMemory):
        found(source, texts, tmp_path / "store")
