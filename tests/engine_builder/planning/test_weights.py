"""Parameters as the model card counts them, and bytes as a conversion writes them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llmjp_builder.contracts.errors import UnsupportedRequest
from llmjp_builder.contracts.spec import LayoutOptions
from llmjp_builder.convert import planner as conversion
from llmjp_builder.convert.amax import Amax
from llmjp_builder.convert.conversion import convert_checkpoint, prepare_ranks
from llmjp_builder.convert.header import TensorInfo
from llmjp_builder.convert.layout import resolve_layout
from llmjp_builder.convert.model_config import ModelConfig, parse_model_config
from llmjp_builder.planning.models import SIZES, find_model_by_size
from llmjp_builder.planning.weights import (
    FAMILIES,
    count_parameters,
    estimate_source_bytes,
    size_ranks,
)
from llmjp_builder.progress import Reporter
from tests.engine_builder.checkpoints import Tiny, read_tensors, write_checkpoint

CARD = {
    "1.8b": (407_498_752, 1_459_718_144),
    "3.7b": (611_248_128, 3_171_068_928),
    "13b": (1_018_746_880, 12_688_184_320),
    "172b": (2_444_992_512, 169_947_181_056),
}
"""Embedding and other parameters, as published."""

REAL_TOTALS = {
    "1.8b": 1_867_614_208,
    "3.7b": 3_782_913_024,
    "13b": 13_707_924_480,
    "172b": 172_400_848_896,
}

WEIGHTS = {
    "1.8b": (3_735_228_416, 2_275_610_624),
    "3.7b": (7_565_826_048, 4_394_932_224),
    "7.2b": (14_584_127_488, 8_108_122_112),
    "13b": (27_415_848_960, 14_728_079_360),
    "172b": (344_801_697_792, 174_856_888_320),
}
"""Bytes in bf16, and with the linear layers in FP8."""

models = st.builds(
    lambda kv, group, **rest: Tiny(kv_heads=kv, heads=kv * group, **rest),
    kv=st.sampled_from([1, 2, 3, 4]),
    group=st.sampled_from([1, 2, 4]),
    hidden=st.sampled_from([16, 48]),
    inter=st.sampled_from([48, 96]),
    layers=st.integers(1, 5),
    head_size=st.sampled_from([2, 16]),
    vocab=st.integers(1, 17),
    tied=st.booleans(),
    dtype=st.sampled_from(["BF16", "F16", "F32"]),
)
layouts = st.fixed_dictionaries(
    {
        "tensor_parallel": st.sampled_from([1, 2, 3, 4, 8]),
        "pipeline_parallel": st.integers(1, 4),
        "embedding_sharding_dim": st.sampled_from([None, 0, 1]),
        "pad_intermediate": st.sampled_from([0, 1, 16]),
    }
)
fp8 = st.sampled_from([("none", "auto"), ("fp8", "auto"), ("fp8", "fp8")])


def config_of(model: Tiny) -> ModelConfig:
    return parse_model_config(model.config(), "config.json")


@pytest.mark.parametrize("size", CARD)
def test_the_cards_numbers_come_out(size: str) -> None:
    model = find_model_by_size(size)
    counted = count_parameters(model.config, model.card_embedding)
    assert (counted.card_embedding, counted.non_embedding) == CARD[size]
    assert counted.total == REAL_TOTALS[size]


@pytest.mark.parametrize("size", SIZES)
def test_parameters_are_those_of_a_llama(size: str) -> None:
    c = find_model_by_size(size.upper()).config
    d, kv = c.hidden_size, c.num_kv_heads * c.head_size
    layer = 2 * d * d + 2 * d * kv + 3 * d * c.intermediate_size + 2 * d
    counted = count_parameters(c)
    assert counted.per_layer == layer
    assert counted.non_embedding == c.num_layers * layer + d
    assert counted.embedding == 2 * d * c.vocab_size


@pytest.mark.parametrize("size", WEIGHTS)
def test_weights_of_the_family(size: str) -> None:
    config = find_model_by_size(size).config
    half, fp8_bytes = WEIGHTS[size]
    assert estimate_source_bytes(config) == half
    [whole] = size_ranks(config, resolve_layout(config, LayoutOptions()))
    assert whole.weights_bytes == half
    [quantised] = size_ranks(
        config, resolve_layout(config, LayoutOptions(quantization="fp8", kv_cache="fp8"))
    )
    scales_per_layer = 5 + 5 + 3
    assert quantised.weights_bytes == fp8_bytes + 4 * scales_per_layer * config.num_layers


@settings(max_examples=150, deadline=None)
@given(model=models, options=layouts, quantisation=fp8)
def test_bytes_are_those_a_conversion_plans(
    model: Tiny, options: dict[str, Any], quantisation: tuple[Any, Any]
) -> None:
    quantization, kv_cache = quantisation
    if quantization == "fp8":
        options = options | {"embedding_sharding_dim": None}
    config = config_of(model)
    try:
        divided = resolve_layout(
            config, LayoutOptions(quantization=quantization, kv_cache=kv_cache, **options)
        )
    except UnsupportedRequest:
        assume(False)
    tensors = {
        name: TensorInfo(name, model.dtype, shape, Path("f"), 0, math.prod(shape) * 2)
        for name, shape in model.shapes().items()
    }
    files = conversion.plan_conversion(tensors, config, divided, Path("hf")).files
    found = size_ranks(config, divided)
    assert [rank.file_bytes for rank in found] == [file.size for file in files]
    assert [r.weights_bytes for r in found] == [f.size - len(f.header) for f in files]


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (Tiny(vocab=11), {"tensor_parallel": 2}),
        (Tiny(kv_heads=2, layers=3, dtype="F32"), {"tensor_parallel": 4, "pipeline_parallel": 2}),
        (Tiny(tied=True, vocab=7), {"tensor_parallel": 2, "embedding_sharding_dim": 0}),
        (Tiny(hidden=32, inter=48, head_size=16), {"quantization": "fp8", "kv_cache": "fp8"}),
        (
            Tiny(hidden=32, inter=48, head_size=16, vocab=9),
            {"tensor_parallel": 2, "quantization": "fp8", "pad_intermediate": 16},
        ),
    ],
)
def test_bytes_are_those_on_the_disk(tmp_path: Path, model: Tiny, options: dict[str, Any]) -> None:
    prepared = prepare_ranks(write_checkpoint(tmp_path / "hf", model), LayoutOptions(**options))
    family = FAMILIES["LlamaForCausalLM"]
    amax = Amax(dict.fromkeys(family.list_linear_modules(prepared.checkpoint.config), 2.0))
    convert_checkpoint(prepared, tmp_path / "out", Reporter(None), amax)
    found = size_ranks(config_of(model), prepared.layout)
    for i, rank in enumerate(found):
        path = tmp_path / "out" / f"rank{i}.safetensors"
        assert path.stat().st_size == rank.file_bytes
        assert sum(_sizes(path)) == rank.weights_bytes
    assert len(found) == len(list((tmp_path / "out").glob("*.safetensors")))


def _sizes(path: Path) -> list[int]:
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    members = (member for name, member in header.items() if name != "__metadata__")
    return [end - begin for begin, end in (member["data_offsets"] for member in members)]


def test_every_architecture_that_is_converted_is_planned() -> None:
    assert FAMILIES == conversion.FAMILIES


def test_a_checkpoints_tensors_have_the_estimated_size(tmp_path: Path) -> None:
    for dtype in ("BF16", "F32"):
        model = Tiny(dtype=dtype)
        folder = write_checkpoint(tmp_path / dtype, model)
        written = sum(np.prod(shape) for shape in model.shapes().values())
        assert estimate_source_bytes(config_of(model)) == written * (4 if dtype == "F32" else 2)
        assert (folder / "model.safetensors").stat().st_size > estimate_source_bytes(
            config_of(model)
        )
    assert read_tensors(tmp_path / "BF16" / "model.safetensors").keys() == Tiny().shapes().keys()
