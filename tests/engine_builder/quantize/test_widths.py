"""Widths that FP8 GEMMs take, and the padding that makes them so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmjp_builder.contracts.errors import InvalidSpec, UnsupportedRequest
from llmjp_builder.contracts.spec import LayoutOptions
from llmjp_builder.convert.conversion import convert_checkpoint, prepare_ranks
from llmjp_builder.convert.conversion_plan import ConversionPlan
from llmjp_builder.convert.header import TensorInfo
from llmjp_builder.convert.layout import Layout, resolve_layout
from llmjp_builder.convert.model_config import ModelConfig, parse_model_config
from llmjp_builder.convert.planner import plan_conversion
from llmjp_builder.progress import Reporter
from tests.engine_builder.checkpoints import Array, Tiny, read_tensors, write_checkpoint

MODEL_172B = Tiny(
    hidden=12288, inter=38464, layers=96, heads=96, kv_heads=16, head_size=128, vocab=99840
)
SCALED_DOWN = Tiny(hidden=32, inter=8 * 24, layers=4, heads=8, kv_heads=8, head_size=16, vocab=20)
"""Like it: 24 per rank at tensor parallel 8, 48 at 4."""


def config_of(model: Tiny) -> ModelConfig:
    return parse_model_config(model.config(), "config.json")


def planned(model: Tiny, **options: Any) -> tuple[ConversionPlan, Layout]:
    config = config_of(model)
    found = resolve_layout(config, LayoutOptions(quantization="fp8", **options))
    tensors = {
        name: TensorInfo(name, "BF16", shape, Path("f"), 0, 2 * int(np.prod(shape)))
        for name, shape in model.shapes().items()
    }
    return plan_conversion(tensors, config, found, Path("hf")), found


@pytest.mark.parametrize("model", [MODEL_172B, SCALED_DOWN])
def test_what_fp8_does_not_take_is_refused_with_ways_out(model: Tiny) -> None:
    with pytest.raises(UnsupportedRequest) as caught:
        resolve_layout(config_of(model), LayoutOptions(tensor_parallel=8, quantization="fp8"))
    assert caught.value.exit_code == 6
    message = str(caught.value)
    assert f"{model.inter // 8} per rank" in message
    assert message.endswith("use --pad-intermediate 16, or --tp 4 --pp 2")


def test_no_way_out_is_named_that_does_not_exist() -> None:
    model = Tiny(hidden=32, inter=24, layers=3, heads=8, kv_heads=8, head_size=16)
    with pytest.raises(UnsupportedRequest, match=r"use --pad-intermediate 16$"):
        resolve_layout(config_of(model), LayoutOptions(tensor_parallel=2, quantization="fp8"))


def test_padding_that_does_not_help_is_refused() -> None:
    with pytest.raises(UnsupportedRequest, match="4809 per rank"):
        resolve_layout(
            config_of(MODEL_172B),
            LayoutOptions(tensor_parallel=8, quantization="fp8", pad_intermediate=7),
        )


def test_the_172b_model_fits_where_the_message_says() -> None:
    padded, found = planned(MODEL_172B, tensor_parallel=8, pad_intermediate=16)
    assert found.intermediate_padding == 4816 - 4808
    wider = 96 * 3 * 12288 * 8  # of each rank
    plain, _ = planned(MODEL_172B, tensor_parallel=8, pad_intermediate=1)
    assert [a.size - b.size for a, b in zip(padded.files, plain.files, strict=True)] == [
        wider + len(a.header) - len(b.header)
        for a, b in zip(padded.files, plain.files, strict=True)
    ]
    staged, found = planned(MODEL_172B, tensor_parallel=4, pipeline_parallel=2)
    assert (found.intermediate_padding, len(staged.files)) == (0, 8)
    # All weights of the decoder's linear layers at one byte, the rest at two.
    linear = 96 * (12288 * 12288 * 2 + 2 * 2048 * 12288 + 3 * 12288 * 38464)
    assert sum(t.source.size for g in staged.fp8_groups for t in g.transfers) == 2 * linear


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"hidden": 40}, "hidden_size is 40"),
        ({"head_size": 4}, "attention's output is 4"),
        ({"heads": 32, "head_size": 4}, "keys and values together is 24"),
    ],
)
def test_other_widths(change: dict[str, Any], what: str) -> None:
    shape = {"hidden": 32, "inter": 256, "heads": 8, "kv_heads": 8, "head_size": 16}
    config = config_of(Tiny(**(shape | change)))
    with pytest.raises(UnsupportedRequest, match=what):
        resolve_layout(
            config, LayoutOptions(tensor_parallel=8, quantization="fp8", pad_intermediate=1)
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kv_cache": "fp8"}, "needs quantization fp8"),
        ({"quantization": "fp8", "embedding_sharding_dim": 1}, "by vocabulary"),
        ({"pad_intermediate": -1}, "must be at least 0"),
        ({"pad_intermediate": 1 << 40}, "must be from 0"),
    ],
)
def test_options_that_fit_no_model(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        resolve_layout(config_of(SCALED_DOWN), LayoutOptions(**options))


def test_padding_that_changes_nothing_is_none_at_all() -> None:
    config = config_of(SCALED_DOWN)
    for multiple in (0, 1, 2, 24):
        found = resolve_layout(config, LayoutOptions(tensor_parallel=8, pad_intermediate=multiple))
        assert found.intermediate_padding == 0


@pytest.mark.parametrize("multiple", [16, 5])
def test_padding_adds_zeros_and_nothing_else(tmp_path: Path, multiple: int) -> None:
    model = Tiny(hidden=16, inter=48, heads=4, kv_heads=4, head_size=4, vocab=9)
    source = write_checkpoint(tmp_path / "hf", model)
    for out, pad in (("plain", 0), ("padded", multiple)):
        conversion = prepare_ranks(source, LayoutOptions(tensor_parallel=4, pad_intermediate=pad))
        convert_checkpoint(conversion, tmp_path / out, Reporter(None))
    for rank in range(4):
        plain, padded = (
            read_tensors(tmp_path / out / f"rank{rank}.safetensors") for out in ("plain", "padded")
        )
        assert plain.keys() == padded.keys()
        for name, found in padded.items():
            assert_padded(plain[name], found, 0 if ".mlp." not in name else -12 % multiple)


def assert_padded(plain: Array, padded: Array, zeros: int) -> None:
    """`padded` is `plain` with that many zeros at the end of the one dimension that grew."""
    grown = [after - before for before, after in zip(plain.shape, padded.shape, strict=True)]
    assert max(grown) == zeros == sum(grown)
    inside = padded[tuple(slice(length) for length in plain.shape)]
    assert np.array_equal(inside, plain)
    assert np.count_nonzero(padded) == np.count_nonzero(plain)
