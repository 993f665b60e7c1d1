"""Places where a build works: other file systems, a read-only source, a disk that fills up."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmjp_builder.contracts.errors import NotEnoughDisk
from llmjp_builder.contracts.spec import Backend, BuildSpec, Progress, Source
from llmjp_builder.pipeline import BuildResult, build
from llmjp_builder.store.store import Store, check_artefact
from tests.engine_builder.checkpoints import tree
from tests.engine_builder.pipeline.conftest import engine_from
from tests.engine_builder.quantize.calibration.models import add_letters, written
from tests.support.hub import Hub

Mount = Callable[..., Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a file system of its own at a folder below `tmp_path`; needs root."""
    mounted: list[Path] = []

    def at(name: str, options: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if os.geteuid() != 0 or not shutil.which("mount"):
            pytest.skip("mounting a file system needs root")
        if subprocess.call(command, stderr=subprocess.DEVNULL):
            pytest.skip("mounting a file system is not allowed here")
        mounted.append(folder)
        return folder

    yield at
    for folder in mounted:
        subprocess.check_call(["umount", str(folder)])


def test_a_read_only_source_and_a_store_on_another_file_system(
    source: Path, mount: Mount, tmp_path: Path
) -> None:
    whole = build(BuildSpec(source=Source(path=str(source))), store=tmp_path / "reference")
    fixed = mount("fixed", "size=1m")
    shutil.copytree(source, fixed, dirs_exist_ok=True)
    subprocess.check_call(["mount", "-o", "remount,ro", str(fixed)])
    store = mount("store", "size=4m")
    result = build(BuildSpec(source=Source(path=str(fixed))), store=store)
    assert tree(result.path) == tree(whole.path)
    assert result.path.is_relative_to(store)


class FillsUp:
    """Takes all the room that is left when the build says something for the first time."""

    def __init__(self, disk: Path, step: str, words: str) -> None:
        self.ballast = disk / "ballast"
        self.step, self.words = step, words

    def __call__(self, progress: Progress) -> None:
        if progress.step != self.step or self.words not in progress.message:
            return
        if self.ballast.exists():
            return
        with self.ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                return


MOMENTS = [
    ("fetch", "downloading"),
    ("convert", "converting"),
    ("assemble", "hashing"),
    ("publish", "publishing"),
    ("compile", ""),
]


@pytest.mark.usefixtures("gpu_machine")
@pytest.mark.parametrize(("step", "words"), MOMENTS)
def test_a_disk_that_fills_up_during_a_step(
    step: str, words: str, hub: Hub, mount: Mount, tmp_path: Path
) -> None:
    spec = engine_from(hub)
    disk = mount("disk", "size=2m")
    fill = FillsUp(disk, step, words)
    store = disk / "store"
    with pytest.raises(NotEnoughDisk, match="the disk is full") as caught:
        build(spec, store=store, on_progress=fill)
    assert (caught.value.exit_code, caught.value.retryable) == (4, True)
    for key in Store(store).list_keys():
        check_artefact(Store(store).get_path(key))
    finished = step in {"assemble", "publish"}
    assert bool(list(store.glob("work/*"))) == finished
    fill.ballast.unlink()
    said: list[Progress] = []
    result = build(spec, store=store, on_progress=said.append)
    assert ("convert" in {progress.step for progress in said}) == (step in {"fetch", "convert"})
    assert not list(store.glob("work/*"))
    assert check_artefact(result.path).checkpoint_key in Store(store).list_keys()


def test_a_disk_that_fills_up_during_calibration(mount: Mount, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("いろはにほへと\n\nちりぬるを\n", encoding="utf-8")
    spec = BuildSpec(
        source=Source(path=str(add_letters(written(tmp_path / "letters")))),
        quantization="fp8",
        calibration=str(texts),
    )
    disk = mount("disk", "size=2m")
    fill = FillsUp(disk, "calibrate", "")
    with pytest.raises(NotEnoughDisk, match="the disk is full"):
        build(spec, store=disk / "store", on_progress=fill)
    assert not list(disk.glob("store/calibrations/*/amax.json"))
    fill.ballast.unlink()
    result = build(spec, store=disk / "store")
    assert tree(result.path) == tree(build(spec, store=tmp_path / "reference").path)


def test_of_two_builders_of_an_engine_one_compiles(
    gpu_machine: None, source: Path, tmp_path: Path
) -> None:
    spec = BuildSpec(source=Source(path=str(source)), backend=Backend.TENSORRT, max_seq_len=64)
    compiling, waiting = threading.Event(), threading.Event()
    results: list[BuildResult] = []
    said: list[Progress] = []

    def first(progress: Progress) -> None:
        if progress.step == "compile" and not compiling.is_set():
            compiling.set()
            assert waiting.wait(60)

    def second(progress: Progress) -> None:
        said.append(progress)
        if "another process is building" in progress.message:
            waiting.set()

    def run(on_progress: Any) -> None:
        results.append(build(spec, store=tmp_path / "store", on_progress=on_progress))

    threads = [threading.Thread(target=run, args=(sink,)) for sink in (first, second)]
    threads[0].start()
    assert compiling.wait(60)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert sorted(result.cache_hit for result in results) == [False, True]
    assert results[0].path == results[1].path
    assert [p.step for p in said if "another process" in p.message] == ["compile"]
    assert "convert" not in {progress.step for progress in said}
