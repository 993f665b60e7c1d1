"""Builds killed after their work was done: how they resume, and which leftovers are refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from llmjp_builder.contracts.spec import Backend, BuildSpec, Progress, Source
from llmjp_builder.pipeline import build
from llmjp_builder.store.store import Store
from tests.engine_builder.checkpoints import tree


class Killed(BaseException):
    """A kill, as far as a test can simulate it within its own process."""


def left_by_a_kill(spec: BuildSpec, store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The key of a build that died while it hashed what it had made."""

    kind = "*.engine" if spec.backend is Backend.TENSORRT else "*.safetensors"
    with monkeypatch.context() as patch:

        def die(progress: Progress) -> None:
            if progress.step == "assemble" and list((store / "work").glob(f"*/{kind}")):
                patch.setattr(Store, "_remove_work", lambda *_: None)
                raise Killed

        with pytest.raises(Killed):
            build(spec, store=store, on_progress=die)
    [mark] = (store / "work").glob("*.finished")
    return mark.stem


@pytest.fixture
def spec(source: Path) -> BuildSpec:
    return BuildSpec(source=Source(path=str(source)), tensor_parallel=2)


def steps(spec: BuildSpec, store: Path) -> list[str]:
    seen: list[Progress] = []
    build(spec, store=store, on_progress=seen.append)
    return list(dict.fromkeys(progress.step for progress in seen))


def test_finished_work_is_published_without_being_done_again(
    spec: BuildSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = build(spec, store=tmp_path / "reference")
    key = left_by_a_kill(spec, tmp_path / "store", monkeypatch)
    assert key == whole.key
    assert steps(spec, tmp_path / "store") == ["fetch", "assemble", "publish"]
    assert tree(Store(tmp_path / "store").get_path(key)) == tree(whole.path)
    assert list((tmp_path / "store" / "work").iterdir()) == []


@pytest.mark.usefixtures("gpu_machine")
def test_an_engine_that_was_compiled_is_not_compiled_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = BuildSpec(source=Source(path=str(source)), backend=Backend.TENSORRT, max_seq_len=64)
    left_by_a_kill(spec, tmp_path / "store", monkeypatch)
    monkeypatch.setenv("LLMJP_STANDIN_FAILURE", "unknown")
    assert steps(spec, tmp_path / "store") == ["fetch", "assemble", "publish"]


def without_mark(work: Path) -> None:
    work.with_name(f"{work.name}.finished").unlink()


def shortened(work: Path) -> None:
    os.truncate(work / "rank1.safetensors", 10)


def lacking(work: Path) -> None:
    (work / "tokenizer" / "tokenizer.json").unlink()


def mark_alone(work: Path) -> None:
    shutil.rmtree(work)


def broken_mark(work: Path) -> None:
    work.with_name(f"{work.name}.finished").write_text("{")


@pytest.mark.parametrize("spoil", [without_mark, shortened, lacking, mark_alone, broken_mark])
def test_what_is_not_as_it_was_finished_is_done_again(
    spoil: object, spec: BuildSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(spoil)
    whole = build(spec, store=tmp_path / "reference")
    key = left_by_a_kill(spec, tmp_path / "store", monkeypatch)
    spoil(tmp_path / "store" / "work" / key)
    assert steps(spec, tmp_path / "store") == ["fetch", "convert", "assemble", "publish"]
    assert tree(Store(tmp_path / "store").get_path(key)) == tree(whole.path)


def test_a_manifest_that_was_not_published_is_written_again(
    spec: BuildSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = build(spec, store=tmp_path / "reference")
    key = left_by_a_kill(spec, tmp_path / "store", monkeypatch)
    (tmp_path / "store" / "work" / key / "manifest.json").write_text("{")
    assert "convert" not in steps(spec, tmp_path / "store")
    assert tree(Store(tmp_path / "store").get_path(key)) == tree(whole.path)


def test_finished_work_of_another_key_is_left_to_its_next_build(
    spec: BuildSpec, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = left_by_a_kill(spec, tmp_path / "store", monkeypatch)
    build(BuildSpec(source=Source(path=str(source))), store=tmp_path / "store")
    mark = tmp_path / "store" / "work" / f"{key}.finished"
    assert "rank1.safetensors" in json.loads(mark.read_text())
    assert "convert" not in steps(spec, tmp_path / "store")


def test_a_source_that_changed_meanwhile_leaves_nothing_finished(
    spec: BuildSpec, source: Path, tmp_path: Path
) -> None:
    finished: list[Path] = []

    def touch(progress: Progress) -> None:
        finished.extend((tmp_path / "store" / "work").glob("*.finished"))
        if progress.step == "convert":
            config = source / "config.json"
            config.write_bytes(config.read_bytes())

    with pytest.raises(Exception, match="modified during the build"):
        build(spec, store=tmp_path / "store", on_progress=touch)
    assert finished == []
    assert list((tmp_path / "store" / "work").iterdir()) == []
