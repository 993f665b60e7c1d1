"""Calibration as a part of builds and conversions: what is found is what giving it would make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmjp_builder.contracts.spec import Backend, BuildSpec, Progress, Source, Step
from llmjp_builder.pipeline import build
from tests.engine_builder.checkpoints import tree
from tests.engine_builder.command_line import CommandLine


def spec(source: Path, **options: Any) -> BuildSpec:
    settings = {"quantization": "fp8", "kv_cache": "fp8", **options}
    return BuildSpec(source=Source(path=str(source)), **settings)


def only(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


@pytest.mark.parametrize("backend", [Backend.TORCH, Backend.VLLM])
def test_a_build(source: Path, texts: Path, tmp_path: Path, backend: Backend) -> None:
    store, shown = tmp_path / "store", list[Progress]()
    wanted = spec(source, backend=backend, calibration=str(texts))
    result = build(wanted, store=store, on_progress=shown.append)
    steps = list(dict.fromkeys(p.step for p in shown))
    assert steps[:3] == [Step.FETCH, Step.CALIBRATE, Step.CONVERT]
    assert sum("hashing" in p.message and p.percent == 100 for p in shown) <= 2
    amax = only(store / "calibrations") / "amax.json"
    given = spec(source, backend=backend, activation_amax=str(amax))
    assert build(given, store=tmp_path / "other").key == result.key
    shown.clear()
    assert build(wanted, store=store, on_progress=shown.append).cache_hit
    assert not any("texts" in p.message for p in shown)


def test_of_a_killed_build_the_calibration_remains(
    source: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, wanted = tmp_path / "store", spec(source, calibration=str(texts))

    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("llmjp_builder.pipeline.write_conversion", dies)
        with pytest.raises(KeyboardInterrupt):
            build(wanted, store=store)
    shown: list[Progress] = []
    assert not build(wanted, store=store, on_progress=shown.append).cache_hit
    assert not any("texts" in p.message for p in shown)


@pytest.mark.parametrize("command", [("convert", "--quantization", "fp8"), ("quantize",)])
def test_a_command(
    source: Path,
    texts: Path,
    tmp_path: Path,
    llmjp: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out, given = tmp_path / "out", tmp_path / "given"
    fp8 = ("--kv-cache", "fp8")
    assert llmjp(*command, source, out, *fp8, "--calibration", texts).exit_code == 0
    amax = only(tmp_path / "cache" / "llmjp-serving" / "calibrations") / "amax.json"
    assert llmjp(*command, source, given, *fp8, "--activation-amax", amax).exit_code == 0
    assert tree(out) == tree(given)


def test_the_built_in_texts_are_the_default(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = build(spec(source), store=store)
    assert build(spec(source, tensor_parallel=2, pad_intermediate=1), store=store).key != first.key
    only(store / "calibrations")


def test_texts_that_cannot_be_read(
    source: Path, tmp_path: Path, llmjp: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    texts = tmp_path / "texts.txt"
    texts.write_bytes("日本語".encode("euc_jp"))
    options = ("--quantization", "fp8", "--calibration", texts)
    for command in (
        ("convert", source, tmp_path / "out", *options),
        ("build", source, "--store", tmp_path / "store", *options),
    ):
        ended = llmjp(*command)
        assert ended.exit_code == 3
        assert "not UTF-8" in ended.err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "store" / "calibrations").exists()
