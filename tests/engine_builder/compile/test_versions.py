"""What is installed, and where caches of it are kept."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from llmjp_builder.compile import timing_cache as caches
from llmjp_builder.compile.versions import Versions, detect_versions, find_compiler
from llmjp_builder.contracts.errors import CompilerMissing
from tests.engine_builder.compile.samples import A100, H100, VERSIONS


def install(folder: Path, name: str, version: str) -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.mark.parametrize("tensorrt", ["tensorrt", "tensorrt_cu13"])
def test_installed_versions(tensorrt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    install(tmp_path, "tensorrt_llm", "1.2.1")
    with pytest.raises(CompilerMissing, match="tensorrt is not installed"):
        detect_versions()
    install(tmp_path, tensorrt, "10.14.1.48")
    assert detect_versions() == Versions(tensorrt_llm="1.2.1", tensorrt="10.14.1.48")


def test_not_installed() -> None:
    with pytest.raises(CompilerMissing, match="tensorrt-llm is not installed"):
        detect_versions()


def test_the_compiler_of_this_interpreter_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CompilerMissing, match="nor on PATH"):
        find_compiler()
    for folder in (tmp_path, tmp_path / "venv"):
        folder.mkdir(exist_ok=True)
        program = folder / "trtllm-build"
        program.write_text("")
        program.chmod(0o755)
        assert find_compiler() == program


def test_caches_are_apart_for_each_gpu_and_version(tmp_path: Path) -> None:
    paths = {
        caches.locate_timing_cache(tmp_path, H100, VERSIONS),
        caches.locate_timing_cache(tmp_path, A100, VERSIONS),
        caches.locate_timing_cache(tmp_path, H100, replace(VERSIONS, tensorrt_llm="1.2.0")),
        caches.locate_timing_cache(tmp_path, H100, replace(VERSIONS, tensorrt="10.13.3.9")),
        caches.locate_timing_cache(tmp_path, replace(H100, product="../../x"), VERSIONS),
    }
    assert len(paths) == 5
    assert {path.parent for path in paths} == {tmp_path}
    assert caches.locate_timing_cache(tmp_path, replace(H100, count=8), VERSIONS) in paths


def test_keeping_and_taking(tmp_path: Path) -> None:
    used, kept = tmp_path / "work" / "timing.cache", tmp_path / "caches" / "a.cache"
    used.parent.mkdir()
    caches.restore_timing_cache(kept, used)
    caches.save_timing_cache(used, kept)
    assert not used.exists()
    assert not kept.exists()
    used.write_bytes(b"measured")
    caches.save_timing_cache(used, kept)
    assert kept.read_bytes() == b"measured"
    used.write_bytes(b"")
    caches.save_timing_cache(used, kept)
    caches.restore_timing_cache(kept, used)
    assert used.read_bytes() == b"measured"
    assert [path.name for path in kept.parent.iterdir()] == ["a.cache"]
