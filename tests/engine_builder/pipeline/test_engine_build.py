"""Backend tensorrt, from a checkpoint to a published engine, through the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from llmjp_builder.contracts.spec import Kind, Manifest
from llmjp_builder.store.store import Store, check_artefact
from tests.engine_builder.checkpoints import tree
from tests.engine_builder.command_line import CommandLine, Ended

pytestmark = pytest.mark.usefixtures("gpu_machine")

OPTIONS = ("--backend", "tensorrt", "--tp", "2", "--max-batch-size", "8", "--max-seq-len", "64")


def steps(ended: Ended) -> list[str]:
    """In order, each once."""
    lines = [json.loads(line) for line in ended.err.splitlines() if line.startswith("{")]
    return list(dict.fromkeys(line["step"] for line in lines))


def test_an_engine_is_built_from_its_checkpoint(
    source: Path, tmp_path: Path, llmjp: CommandLine
) -> None:
    store = tmp_path / "store"
    ended = llmjp("build", source, "--store", store, *OPTIONS)
    assert ended.exit_code == 0, ended.err
    engine = Path(ended.last_line)
    manifest = check_artefact(engine)
    assert manifest.checkpoint_key is not None
    checkpoint = check_artefact(Store(store).get_path(manifest.checkpoint_key))
    assert (manifest.kind, checkpoint.kind) == (Kind.ENGINE, Kind.RANKS)
    tokenizer = {name for name in tree(source) if "token" in name or "generation" in name}
    assert set(tree(engine)) == {
        "config.json",
        "manifest.json",
        "rank0.engine",
        "rank1.engine",
        *(f"tokenizer/{name}" for name in tokenizer),
    }
    sizes = [(engine / f"rank{rank}.engine").stat().st_size for rank in range(2)]
    assert list(manifest.bytes_per_rank) == sizes
    assert manifest.inputs.engine is not None
    assert manifest.inputs.engine.gpu_product == "NVIDIA-H100-80GB-HBM3"
    assert manifest.inputs.engine.options["max_batch_size"] == 8
    assert manifest.versions["tensorrt_llm"] == "1.2.1"
    for text in (engine / "manifest.json", engine / "config.json"):
        assert str(tmp_path) not in text.read_text()
    assert steps(ended) == ["fetch", "convert", "assemble", "publish", "compile"]
    newest = json.loads((store / "progress.json").read_text())
    assert (newest["step"], newest["percent"], newest["eta_seconds"]) == ("publish", 100.0, 0.0)
    log = store / "logs" / f"{engine.name}.compile.log"
    assert "Total time of building all engines" in log.read_text()
    assert list((store / "timing-caches").iterdir())
    assert list((store / "work").iterdir()) == []


def test_the_second_build_needs_neither_compiler_nor_checkpoint(
    source: Path, tmp_path: Path, llmjp: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    first = llmjp("build", source, "--store", store, *OPTIONS)
    checkpoint = Manifest.load(Path(first.last_line)).checkpoint_key
    shutil.rmtree(Store(store).get_path(str(checkpoint)))
    monkeypatch.setenv("LLMJP_STANDIN_FAILURE", "unknown")
    second = llmjp("build", source, "--store", store, *OPTIONS)
    assert (second.exit_code, second.last_line) == (0, first.last_line)
    assert steps(second) == ["fetch", "publish"]


def test_other_options_take_the_same_checkpoint(
    source: Path, tmp_path: Path, llmjp: CommandLine
) -> None:
    store = tmp_path / "store"
    first = llmjp("build", source, "--store", store, *OPTIONS)
    second = llmjp("build", source, "--store", store, *OPTIONS, "--option", "tokens_per_block=64")
    keys = [Manifest.load(Path(ended.last_line)).checkpoint_key for ended in (first, second)]
    assert first.last_line != second.last_line
    assert keys[0] == keys[1]
    assert "convert" not in steps(second)


def test_a_failed_compilation_keeps_the_checkpoint(
    source: Path, tmp_path: Path, llmjp: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, file = tmp_path / "store", tmp_path / "termination"
    monkeypatch.setenv("LLMJP_STANDIN_FAILURE", "gpu_memory")
    ended = llmjp("build", source, "--store", store, *OPTIONS, "--termination-message", file)
    assert ended.exit_code == 4
    failure = json.loads(file.read_text())
    assert (failure["code"], failure["step"]) == ("not_enough_gpu_memory", "compile")
    [key] = Store(store).list_keys()
    assert Manifest.load(Store(store).get_path(key)).kind is Kind.RANKS
    assert list((store / "work").iterdir()) == []
    monkeypatch.delenv("LLMJP_STANDIN_FAILURE")
    again = llmjp("build", source, "--store", store, *OPTIONS)
    assert again.exit_code == 0
    assert "convert" not in steps(again)


def test_a_warning_is_shown(source: Path, tmp_path: Path, llmjp: CommandLine) -> None:
    ended = llmjp(
        "build",
        source,
        *("--store", tmp_path / "store"),
        *OPTIONS,
        *("--option", "max_num_tokens=1000000"),
    )
    assert ended.exit_code == 0
    assert "warning: " in ended.err


def test_refused_options_are_reported_before_anything_is_hashed(
    source: Path, tmp_path: Path, llmjp: CommandLine
) -> None:
    store = tmp_path / "store"
    ended = llmjp("build", source, "--store", store, *OPTIONS, "--option", "gemm_plugn=auto")
    assert ended.exit_code == 2
    assert "gemm_plugn" in ended.complaint
    assert not (store / "cache").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--option", "tokens_per_block=64"], "only --backend tensorrt reads --option"),
        (["--max-seq-len", "64"], "only --backend tensorrt reads --max-seq-len"),
        (["--backend", "tensorrt", "--option", "x"], "expected NAME=VALUE"),
        (["--backend", "tensorrt", "--option", "x=1", "--option", "x=2"], "given twice"),
    ],
)
def test_usage(
    options: list[str], message: str, source: Path, tmp_path: Path, llmjp: CommandLine
) -> None:
    ended = llmjp("build", source, "--store", tmp_path / "store", *options)
    assert ended.exit_code == 2
    assert message in " ".join(ended.err.replace("│", " ").split())


def test_without_a_gpu_nothing_begins(
    source: Path, tmp_path: Path, llmjp: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    ended = llmjp("build", source, "--store", tmp_path / "store", *OPTIONS)
    assert ended.exit_code == 6
    assert "nvidia-smi not found" in ended.complaint
    assert not (tmp_path / "store" / "artefacts").exists()
