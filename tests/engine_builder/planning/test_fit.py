"""How many tokens fit beside the weights, and which layouts follow from it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmjp_builder.contracts.errors import UnsupportedGpu
from llmjp_builder.planning.capacity import CapacityPlan, plan_capacity
from llmjp_builder.planning.fit import Fit, FitVerdict
from llmjp_builder.planning.gpus import GPU_TYPES, find_gpu_type
from llmjp_builder.planning.kv_cache import count_tokens_that_fit
from llmjp_builder.planning.models import find_model_by_size
from llmjp_builder.planning.request import PlanRequest
from tests.engine_builder.planning.test_weights import WEIGHTS

GIB = 1 << 30


CAPACITY = (
    ("1.8b", "none", "H100", 1, 347, 84),
    ("1.8b", "none", "H200", 1, 646, 157),
    ("3.7b", "none", "H100", 1, 188, 45),
    ("3.7b", "none", "H200", 1, 359, 87),
    ("13b", "none", "H100", 1, 57, 13),
    ("13b", "none", "H100", 2, 144, 35),
    ("13b", "none", "H200", 1, 129, 31),
    ("13b", "none", "H200", 2, 288, 70),
    ("13b", "fp8", "H100", 1, 142, 34),
    ("13b", "fp8", "H200", 1, 286, 69),
    ("172b", "none", "H100", 8, 333, 81),
    ("172b", "none", "H200", 4, 269, 65),
    ("172b", "none", "H200", 8, 933, None),
    ("172b", "fp8", "H100", 4, 327, 79),
    ("172b", "fp8", "H200", 2, 263, 64),
    ("172b", "fp8", "H200", 4, 927, 226),
)
"""Size, quantisation, GPU, tensor parallel; thousands of tokens; full sequences, where known."""


def planned(size: str, gpu: str = "H100", **options: Any) -> CapacityPlan:
    return plan_capacity(
        find_model_by_size(size), PlanRequest(gpus=(find_gpu_type(gpu),), **options)
    )


def the_fit(size: str, gpu: str, tp: int, quantization: str = "none") -> Fit:
    """Of one layout; the embedding table is divided, so that a rank holds 1 / tp of the weights."""
    options: dict[str, Any] = {"quantization": quantization}
    if quantization == "fp8":
        options["kv_cache"] = "fp8"
    else:
        options["embedding_sharding_dim"] = 0
    [found] = planned(size, gpu, tensor_parallel=tp, **options).gpus
    [fit] = found.fits
    return fit


@pytest.mark.parametrize(
    ("size", "half", "fp8"),
    [
        ("1.8b", 196_608, 98_304),
        ("3.7b", 344_064, 172_032),
        ("7.2b", 524_288, 262_144),
        ("13b", 819_200, 409_600),
        ("172b", 786_432, 393_216),
    ],
)
def test_kv_bytes_per_token(size: str, half: int, fp8: int) -> None:
    assert planned(size).kv_bytes_per_token == half
    found = planned(size, quantization="fp8", kv_cache="fp8")
    assert found.kv_bytes_per_token == fp8


@pytest.mark.parametrize(("size", "quantization", "gpu", "tp", "thousands", "sequences"), CAPACITY)
def test_the_capacity_table(
    size: str, quantization: str, gpu: str, tp: int, thousands: int, sequences: int | None
) -> None:
    """With weights that divide over the ranks without rest, which those of norms do not."""
    half, fp8 = WEIGHTS[size]
    token = planned(size).kv_bytes_per_token // (2 if quantization == "fp8" else 1)
    weights = fp8 if quantization == "fp8" else half
    room = count_tokens_that_fit(find_gpu_type(gpu).usable_bytes, weights // tp, token // tp)
    assert round(room / 1000) == thousands
    assert sequences is None or room // 4096 == sequences
    fit = the_fit(size, gpu, tp, quantization)
    assert fit.verdict is FitVerdict.WORKS
    assert fit.sequences == room // 4096
    assert 0.999 * room < fit.kv_tokens <= room


@pytest.mark.parametrize(
    ("quantization", "gpu", "tp", "gib"),
    [("none", "H100", 4, 80.3), ("none", "H200", 2, 160.6), ("fp8", "H100", 2, 81.4)],
)
def test_where_172b_does_not_fit(quantization: str, gpu: str, tp: int, gib: float) -> None:
    fit = the_fit("172b", gpu, tp, quantization)
    assert round(fit.weights_bytes / GIB, 1) == gib
    assert fit.verdict is FitVerdict.WEIGHTS_TOO_LARGE
    assert fit.sequences == 0


def test_a_table_on_every_rank_costs_room() -> None:
    divided = the_fit("172b", "H100", 8)
    [found] = planned("172b", tensor_parallel=8).gpus
    table = 99840 * 12288 * 2
    assert found.fits[0].weights_bytes - divided.weights_bytes == table - table // 8
    assert found.fits[0].kv_tokens < divided.kv_tokens


@pytest.mark.parametrize(
    ("size", "gpu", "options", "layout"),
    [
        ("1.8b", "L4", {}, (1, 1)),
        ("13b", "H100", {}, (1, 1)),
        ("13b", "H100", {"concurrency": 30}, (2, 1)),
        ("13b", "L40S", {}, (2, 1)),
        ("172b", "H100", {}, (8, 1)),
        ("172b", "H200", {}, (4, 1)),
        ("172b", "H100", {"quantization": "fp8", "kv_cache": "fp8"}, (4, 1)),
        ("172b", "H200", {"quantization": "fp8", "kv_cache": "fp8"}, (2, 1)),
        # Tensor parallel 8 is refused, and 4 GPUs are too few.
        ("172b", "L40S", {"quantization": "fp8", "kv_cache": "fp8"}, (4, 2)),
        (
            "172b",
            "L40S",
            {"quantization": "fp8", "kv_cache": "fp8", "pad_intermediate": 16},
            (8, 1),
        ),
    ],
)
def test_the_recommended_layout(
    size: str, gpu: str, options: dict[str, Any], layout: tuple[int, int]
) -> None:
    [found] = planned(size, gpu, **options).gpus
    best = found.recommended
    assert best is not None
    assert (best.tensor_parallel, best.pipeline_parallel) == layout
    assert [fit.recommended for fit in found.fits].count(True) == 1


def test_the_fewest_gpus_are_marked_as_well() -> None:
    [found] = planned("172b", quantization="fp8", kv_cache="fp8").gpus
    assert found.cheapest is not None
    assert (found.cheapest.gpus, found.cheapest.pipeline_parallel) == (3, 3)
    assert not found.cheapest.recommended


def test_an_odd_number_of_gpus_is_recommended_where_nothing_else_works() -> None:
    [found] = planned("13b", "A10", pipeline_parallel=5, concurrency=1).gpus
    assert found.recommended is not None
    assert found.recommended == found.cheapest
    assert found.recommended.gpus == 5


def test_fewer_sequences_than_wanted() -> None:
    [found] = planned("13b", concurrency=14, tensor_parallel=1).gpus
    [fit] = found.fits
    assert fit.verdict is FitVerdict.FEW_SEQUENCES
    assert fit.reason == "13 sequences of 4,096 tokens fit at once, 14 are requested"
    assert found.recommended is None
    [fit] = planned("13b", concurrency=14, max_batch_size=13, tensor_parallel=1).gpus[0].fits
    assert fit.verdict is FitVerdict.WORKS


def test_room_for_no_sequence() -> None:
    [fit] = planned("13b", tensor_parallel=1, max_seq_len=60_000).gpus[0].fits
    assert fit.verdict is FitVerdict.NO_SEQUENCE
    assert fit.kv_tokens == 57_174
    assert "57,174" in str(fit.reason)


@settings(max_examples=25, deadline=None)
@given(
    tp=st.sampled_from([1, 2, 4, 8]), pp=st.sampled_from([1, 2, 3]), gpu=st.sampled_from(GPU_TYPES)
)
def test_every_rank_fits(tp: int, pp: int, gpu: Any) -> None:
    request = PlanRequest(gpus=(gpu,), tensor_parallel=tp, pipeline_parallel=pp, gpus_per_node=24)
    found = plan_capacity(find_model_by_size("172b"), request)
    [division], [fit] = found.divisions, found.gpus[0].fits
    for weights, token in zip(
        division.weights_bytes_per_rank, division.kv_bytes_per_token_per_rank, strict=True
    ):
        assert fit.kv_tokens * token <= max(0, 0.9 * (gpu.usable_bytes - weights - 4 * GIB))
    assert sum(division.kv_bytes_per_token_per_rank) == found.kv_bytes_per_token


def test_heads_on_several_ranks_are_counted_on_each() -> None:
    found = planned("172b", tensor_parallel=32, gpus_per_node=32)
    [division] = found.divisions
    assert sum(division.kv_bytes_per_token_per_rank) == 2 * found.kv_bytes_per_token
    assert any("2 copies" in warning for warning in division.warnings)


def test_a_full_batch_shares_the_room() -> None:
    [fit] = planned("13b", tensor_parallel=1, max_batch_size=64).gpus[0].fits
    assert fit.tokens_per_slot == 57_174 // 64
    [fit] = planned("13b", tensor_parallel=1, max_batch_size=2).gpus[0].fits
    assert fit.tokens_per_slot == 4096


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("h100", "H100"),
        ("NVIDIA-H100-80GB-HBM3", "H100"),
        ("nvidia-a100-sxm4-80gb", "A100-80GB"),
        ("NVIDIA-L40S", "L40S"),
    ],
)
def test_gpus_go_by_name_and_by_label(name: str, known: str) -> None:
    assert find_gpu_type(name).name == known


def test_names_of_gpus_are_unique() -> None:
    names = [name.casefold() for gpu in GPU_TYPES for name in (gpu.name, *gpu.products)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["H101", "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", ""])
def test_an_unknown_gpu_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedGpu, match="expected one of L4, A10") as caught:
        find_gpu_type(name)
    assert caught.value.exit_code == 6


def test_usable_memory_leaves_room_for_the_driver() -> None:
    assert find_gpu_type("H100").usable_bytes == 78 * GIB
    assert find_gpu_type("H200").usable_bytes == 139 * GIB
    for gpu in GPU_TYPES:
        assert GIB <= (gpu.memory_mib << 20) - gpu.usable_bytes < 2 * GIB


@pytest.mark.parametrize(("name", "fp8"), [("A10", False), ("L4", True), ("B200", True)])
def test_fp8_begins_with_ada(name: str, fp8: bool) -> None:
    assert find_gpu_type(name).fp8 is fp8
