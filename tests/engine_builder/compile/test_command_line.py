"""The command line, argument for argument."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmjp_builder.compile.command_line import decide_workers, render_command
from llmjp_builder.compile.options import decide_options
from tests.engine_builder.compile.samples import FP8, H100, spec


def test_the_whole_command_line() -> None:
    options = decide_options(
        spec(max_batch_size=64, options={"weight_streaming": True, "weight_sparsity": False}),
        FP8,
        H100,
    )
    found = render_command(Path("/opt/trtllm-build"), options, checkpoint=Path("/c"), num_workers=1)
    assert " ".join(found) == (
        "/opt/trtllm-build --checkpoint_dir /c --output_dir engine --workers 1 "
        "--input_timing_cache timing.cache --output_timing_cache timing.cache --log_level info "
        "--context_fmha enable --gemm_plugin disable --kv_cache_type paged --max_batch_size 64 "
        "--max_beam_width 1 --max_num_tokens 8192 --max_seq_len 4096 --multiple_profiles enable "
        "--reduce_fusion disable --remove_input_padding enable --use_fp8_context_fmha enable "
        "--use_paged_context_fmha enable --user_buffer disable --weight_streaming"
    )


def test_ranks_built_at_once_never_read_the_cache_that_one_of_them_writes() -> None:
    options = decide_options(spec(), FP8, H100)
    found = render_command(Path("/p"), options, checkpoint=Path("/c"), num_workers=4)
    read = found[found.index("--input_timing_cache") + 1]
    written = found[found.index("--output_timing_cache") + 1]
    assert read != written
    assert not Path(read).is_absolute()
    assert not Path(written).is_absolute()


@pytest.mark.parametrize(
    ("world", "gpus", "memory", "expected"),
    [
        (8, 8, None, 8),
        (8, 4, None, 4),
        (2, 8, None, 2),
        (8, 8, 3 * 8 << 30, 8),
        (8, 8, (3 * 8 << 30) - 1, 7),
        (8, 8, 1, 1),
        (1, 1, 0, 1),
    ],
)
def test_workers(world: int, gpus: int, memory: int | None, expected: int) -> None:
    found = decide_workers(world=world, gpus=gpus, rank_bytes=1 << 30, memory_available=memory)
    assert found.count == expected


@given(st.integers(1, 64), st.integers(1, 16), st.integers(0, 1 << 40), st.integers(0, 1 << 42))
def test_there_is_always_a_worker_and_never_too_many(
    world: int, gpus: int, rank_bytes: int, memory: int
) -> None:
    found = decide_workers(world=world, gpus=gpus, rank_bytes=rank_bytes, memory_available=memory)
    assert 1 <= found.count <= min(world, gpus)
