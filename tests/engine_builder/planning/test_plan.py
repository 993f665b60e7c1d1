"""The whole plan: what is refused, what building takes, and what machines read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmjp_builder.compile.command_line import decide_workers
from llmjp_builder.contracts.errors import BuilderError, InvalidSpec
from llmjp_builder.convert.model_config import parse_model_config
from llmjp_builder.planning.capacity import CapacityPlan, plan_capacity
from llmjp_builder.planning.gpus import find_gpu_type
from llmjp_builder.planning.models import SIZES, PlannedModel, find_model_by_size
from llmjp_builder.planning.request import PlanRequest
from llmjp_builder.planning.source import read_model
from tests.engine_builder.checkpoints import Tiny, write_checkpoint

FP8 = {"quantization": "fp8", "kv_cache": "fp8"}


def planned(size: str, *gpus: str, **options: Any) -> CapacityPlan:
    known = tuple(find_gpu_type(gpu) for gpu in gpus or ("H100",))
    return plan_capacity(find_model_by_size(size), PlanRequest(gpus=known, **options))


@pytest.mark.parametrize(
    ("size", "options", "tensor_parallel"),
    [
        ("1.8b", {}, (1, 2, 4, 8, 16)),
        ("3.7b", {}, (1, 2, 4, 8)),
        ("13b", {}, (1, 2, 4, 8)),
        ("172b", {}, (1, 2, 4, 8, 16, 32)),
        ("172b", FP8, (1, 2, 4)),
        ("172b", FP8 | {"pad_intermediate": 16}, (1, 2, 4, 8, 16, 32)),
    ],
)
def test_tensor_parallelism_that_works(
    size: str, options: dict[str, Any], tensor_parallel: tuple[int, ...]
) -> None:
    assert planned(size, **options).tensor_parallel == tensor_parallel
    node = planned(size, gpus_per_node=1, **options)
    assert node.tensor_parallel == tensor_parallel, "however many GPUs there are"


def test_pipeline_parallelism_that_works() -> None:
    assert planned("3.7b").pipeline_parallel == (1, 2, 4, 7, 14, 28)


@pytest.mark.parametrize(
    ("size", "options", "exit_code", "words"),
    [
        (
            "172b",
            FP8 | {"tensor_parallel": 8},
            6,
            ("4808 per rank, not a multiple of 16", "--pad-intermediate 16, or --tp 4 --pp 2"),
        ),
        ("13b", {"tensor_parallel": 16}, 6, ("40 attention heads", "possible here: 1, 2, 4, 8")),
        ("172b", {"tensor_parallel": 3}, 6, ("16 key-value heads",)),
        ("13b", {"pipeline_parallel": 41, "gpus_per_node": 64}, 6, ("only 40 layers",)),
        ("172b", {"tensor_parallel": 16}, 6, ("16 GPUs", "a node has 8", "--gpus-per-node")),
        ("172b", {"pipeline_parallel": 12}, 6, ("12 GPUs, but a node has 8",)),
        ("172b", {"tensor_parallel": 4}, 4, ("82.0 GiB", "78 GiB", "--quantization fp8")),
        ("172b", {"gpus_per_node": 4}, 4, ("4 x H100", "more GPUs per node")),
        ("13b", {"max_seq_len": 800_000}, 4, ("one sequence takes 800,000",)),
    ],
)
def test_what_cannot_be_served(
    size: str, options: dict[str, Any], exit_code: int, words: tuple[str, ...]
) -> None:
    found = planned(size, **options)
    with pytest.raises(BuilderError) as caught:
        found.require_possible()
    assert caught.value.exit_code == exit_code
    assert str(caught.value).startswith(f"llm-jp-3-{size}: ")
    for word in words:
        assert word in str(caught.value)


def test_fp8_on_a_gpu_without_it() -> None:
    found = planned("13b", "A100-80GB", **FP8)
    with pytest.raises(
        BuilderError, match=r"compute capability 8\.9, A100-80GB has 8\.0"
    ) as caught:
        found.require_possible()
    assert caught.value.exit_code == 6
    planned("13b", "A100-80GB", "H100", **FP8).require_possible()
    planned("13b", "A100-80GB").require_possible()


def test_a_search_says_why_it_left_divisions_out() -> None:
    found = planned("172b", **FP8)
    found.require_possible()
    assert [refusal.tensor_parallel for refusal in found.refused] == [3, 5, 6, 7, 8]
    assert "--tp 4 --pp 2" in found.refused[-1].reason
    assert all(division.world <= 8 for division in found.divisions)
    assert (4, 2) in {(d.tensor_parallel, d.pipeline_parallel) for d in found.divisions}


def test_uneven_stages_work_with_a_warning() -> None:
    found = planned("3.7b", tensor_parallel=1, pipeline_parallel=3)
    found.require_possible()
    [division] = found.divisions
    assert "does not divide 28 layers" in division.warnings[0]
    per_layer = 2 * 24 * 128 * 2
    assert division.kv_bytes_per_token_per_rank == (10 * per_layer, 9 * per_layer, 9 * per_layer)


def test_the_vocabulary_is_padded() -> None:
    config = parse_model_config(Tiny(vocab=11).config(), "config.json")
    found = plan_capacity(PlannedModel(name="tiny", config=config), PlanRequest(tensor_parallel=4))
    assert found.divisions[0].padded_vocab_size == 12


def test_a_context_beyond_the_positions_is_warned_about() -> None:
    assert "4096 positions" in planned("13b", max_seq_len=4097).warnings[0]
    assert not planned("13b", max_seq_len=4096).warnings


@pytest.mark.parametrize(
    "options",
    [
        {"kv_cache": "fp8"},
        {"tensor_parallel": 0},
        {"max_batch_size": 0},
        {"gpus_per_node": 257},
        {"pad_intermediate": -1},
        {"gpus": ()},
    ],
)
def test_values_that_fit_no_model(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec):
        plan_capacity(find_model_by_size("13b"), PlanRequest(**options))


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(InvalidSpec, match=r"172b$"):
        find_model_by_size("8b")


def test_building_takes() -> None:
    found = planned("172b", tensor_parallel=4, **FP8)
    [division] = found.divisions
    needs = division.build
    assert needs.convert_memory_bytes == 10**9
    layer, states = 2 * found.parameters.per_layer, 512 * 512 * 12288 * 2 * 2
    assert needs.calibrate_memory_bytes == 10**9 + layer + states
    assert needs.ranks.memory_bytes == needs.calibrate_memory_bytes
    assert needs.engine.memory_bytes == needs.compile_memory_bytes
    assert needs.source_disk_bytes == 2 * found.parameters.total
    assert needs.checkpoint_disk_bytes > sum(division.file_bytes_per_rank)
    assert needs.engine.disk_bytes == needs.ranks.disk_bytes + needs.engine_disk_bytes
    assert planned("172b", tensor_parallel=8).divisions[0].build.calibrate_memory_bytes is None


def test_compiling_gets_the_memory_that_it_asks_for() -> None:
    [division] = planned("13b", tensor_parallel=2).divisions
    rank = max(division.weights_bytes_per_rank)
    memory = division.build.compile_memory_bytes
    for parallel in (1, 2):
        asked = decide_workers(world=2, gpus=2, rank_bytes=rank, memory_available=parallel * memory)
        assert asked.count == parallel


@pytest.mark.parametrize("size", SIZES)
def test_a_plan_is_json(size: str) -> None:
    found = planned(size, "H100", "A100-80GB")
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["model"] == f"llm-jp-3-{size}"
    assert document["parameters"]["total"] == found.parameters.total
    [h100, _] = document["gpus"]
    [recommended] = [fit for fit in h100["fits"] if fit["recommended"]]
    best = found.gpus[0].recommended
    assert best is not None
    assert recommended["kv_tokens"] == best.kv_tokens
    division = document["divisions"][0]
    assert division["weights_bytes_per_rank"] == list(found.divisions[0].weights_bytes_per_rank)


def test_planning_needs_the_standard_library_only() -> None:
    program = """
import sys
before = set(sys.modules)
from llmjp_builder.planning import capacity, divisions, fit, gpus, host, kv_cache, models
from llmjp_builder.planning import request, weights
capacity.plan_capacity(models.find_model_by_size("172b"), request.PlanRequest())
added = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(added - set(sys.stdlib_module_names)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["llmjp_builder"]


def test_a_checkpoint_folder(tmp_path: Path) -> None:
    model = Tiny()
    folder = write_checkpoint(tmp_path / "hf", model, shards=2)
    found = read_model(folder)
    assert found.config.vocab_size == model.vocab
    assert found.source_bytes == sum(path.stat().st_size for path in folder.iterdir())


def test_a_config_alone_will_do(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(Tiny().config()))
    found = read_model(tmp_path)
    assert found.source_bytes is None
    assert plan_capacity(found, PlanRequest()).divisions[0].build.source_disk_bytes > 0


def _without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _truncated(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def _another_shape(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(Tiny(inter=16).config()))


def _not_a_llama(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"architectures": ["Qwen3MoeForCausalLM"]}))


def _nothing(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


@pytest.mark.parametrize(
    ("harm", "exit_code"),
    [
        (_without_config, 3),
        (_truncated, 3),
        (_another_shape, 3),
        (_not_a_llama, 6),
        (_nothing, 3),
    ],
)
def test_a_folder_that_is_no_checkpoint(tmp_path: Path, harm: Any, exit_code: int) -> None:
    folder = write_checkpoint(tmp_path / "hf", Tiny())
    harm(folder)
    with pytest.raises(BuilderError) as caught:
        read_model(folder)
    assert caught.value.exit_code == exit_code
    assert str(folder) in str(caught.value)
