"""An engine in two steps: its checkpoint without a GPU, its compilation without the source."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from llmjp_builder.contracts.spec import Kind, Manifest
from llmjp_builder.store.store import Store, check_artefact
from tests.engine_builder.checkpoints import tree
from tests.engine_builder.command_line import CommandLine

pytestmark = pytest.mark.usefixtures("gpu_machine")

LAYOUT = ("--backend", "tensorrt", "--tp", "2")
LIMITS = ("--max-batch-size", "8", "--max-seq-len", "64", "--option", "tokens_per_block=64")


def make_checkpoint(source: Path, store: Path, llmjp: CommandLine) -> str:
    ended = llmjp("build", source, "--store", store, *LAYOUT, "--until", "checkpoint")
    assert ended.exit_code == 0, ended.err
    path = Path(ended.last_line)
    assert check_artefact(path).kind is Kind.RANKS
    return path.name


def test_both_steps_make_what_one_makes(
    source: Path, tmp_path: Path, llmjp: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = llmjp("build", source, "--store", tmp_path / "one", *LAYOUT, *LIMITS)
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("PATH", "/nowhere")  # no nvidia-smi, no trtllm-build
        key = make_checkpoint(source, tmp_path / "two", llmjp)
    shutil.rmtree(source)
    two = llmjp("build", "--store", tmp_path / "two", "--from-checkpoint", key, *LIMITS)
    assert two.exit_code == 0, two.err
    engines = [Path(ended.last_line) for ended in (one, two)]
    assert engines[0].name == engines[1].name
    assert tree(engines[0]) == tree(engines[1])
    assert Manifest.load(engines[1]).checkpoint_key == key


def test_the_second_step_is_found_again(source: Path, tmp_path: Path, llmjp: CommandLine) -> None:
    key = make_checkpoint(source, tmp_path, llmjp)
    given = ("build", "--store", tmp_path, "--from-checkpoint", key, *LIMITS)
    first, second = llmjp(*given), llmjp(*given)
    assert first.last_line == second.last_line
    assert "already there" in second.err


def test_a_spec_gives_the_limits(source: Path, tmp_path: Path, llmjp: CommandLine) -> None:
    """So a Job has one spec for both steps."""
    spec = tmp_path / "spec.json"
    wanted = {"max_batch_size": 8, "max_seq_len": 64, "options": {"tokens_per_block": 64}}
    body = {"source": {"path": str(source)}, "backend": "tensorrt", "tensor_parallel": 2}
    spec.write_text(json.dumps(body | wanted), "utf-8")
    store = tmp_path / "store"
    first = llmjp("build", "--spec", spec, "--store", store, "--until", "checkpoint")
    key = Path(first.last_line).name
    by_spec = llmjp("build", "--spec", spec, "--store", store, "--from-checkpoint", key)
    assert by_spec.exit_code == 0, by_spec.err
    by_hand = llmjp("build", "--store", store, "--from-checkpoint", key, *LIMITS)
    assert by_hand.last_line == by_spec.last_line


def test_a_key_that_is_not_there_names_those_that_are(
    source: Path, tmp_path: Path, llmjp: CommandLine
) -> None:
    missing = llmjp("build", "--store", tmp_path / "none", "--from-checkpoint", "0" * 20)
    assert missing.exit_code == 3
    assert "it has: none" in missing.complaint
    assert "--until checkpoint" in missing.complaint
    key = make_checkpoint(source, tmp_path / "store", llmjp)
    engine = llmjp("build", "--store", tmp_path / "store", "--from-checkpoint", key, *LIMITS)
    wrong = llmjp(
        *("build", "--store", tmp_path / "store"),
        *("--from-checkpoint", Path(engine.last_line).name),
    )
    assert f"it has: {key}" in wrong.complaint, "an engine is no checkpoint"


def test_a_damaged_checkpoint_is_not_compiled(
    source: Path, tmp_path: Path, llmjp: CommandLine
) -> None:
    key = make_checkpoint(source, tmp_path, llmjp)
    weights = Store(tmp_path).get_path(key) / "rank1.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(data)
    ended = llmjp("build", "--store", tmp_path, "--from-checkpoint", key, *LIMITS)
    assert ended.exit_code == 3
    assert "rank1.safetensors" in ended.complaint
    assert [k for k in Store(tmp_path).list_keys() if k != key] == []


def test_a_failed_compilation_keeps_the_checkpoint(
    source: Path, tmp_path: Path, llmjp: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_checkpoint(source, tmp_path, llmjp)
    monkeypatch.setenv("LLMJP_STANDIN_FAILURE", "gpu_memory")
    ended = llmjp("build", "--store", tmp_path, "--from-checkpoint", key, *LIMITS)
    assert ended.exit_code == 4
    assert Store(tmp_path).list_keys() == [key]
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--tp", "2"], "--tp"),
        (["--quantization", "fp8"], "--quantization"),
        (["--until", "checkpoint"], "--until"),
        (["SRC"], "SRC"),
    ],
)
def test_what_is_settled_is_not_given_again(
    given: list[str], named: str, tmp_path: Path, llmjp: CommandLine
) -> None:
    ended = llmjp("build", "--store", tmp_path, "--from-checkpoint", "0" * 20, *given)
    assert ended.exit_code == 2
    assert "--from-checkpoint has these settled" in " ".join(ended.err.replace("│", " ").split())
    assert named in ended.err


def test_of_other_backends_the_checkpoint_is_the_artefact(
    source: Path, tmp_path: Path, llmjp: CommandLine
) -> None:
    whole = llmjp("build", source, "--store", tmp_path, "--tp", "2")
    until = llmjp("build", source, "--store", tmp_path, "--tp", "2", "--until", "checkpoint")
    assert until.last_line == whole.last_line
