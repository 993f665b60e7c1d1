"""The tables of the operator against what they are taken from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmjp_builder.contracts.errors import UnsupportedRequest
from llmjp_builder.contracts.spec import LayoutOptions
from llmjp_builder.convert.layout import resolve_layout
from llmjp_builder.planning.gpus import GPU_TYPES, GpuType
from llmjp_builder.planning.models import SIZES, find_model_by_size
from llmjp_operator.api import model_shapes
from llmjp_operator.api.serving import Serving
from llmjp_operator.api.spec import BEFORE_ADA
from llmjp_operator.names import HEADLESS_SUFFIX, MAX_MODEL_NAME, STORE_SUFFIX
from llmjp_operator.runtimes import DEFAULT_RUNTIME, RUNTIMES
from llmjp_runtime.settings import ServingSettings


def accepted(size: str, *, fp8: bool) -> tuple[int, ...]:
    config, possible = find_model_by_size(size).config, []
    for tp in range(1, config.num_heads + 1):
        try:
            resolve_layout(
                config, LayoutOptions(tensor_parallel=tp, quantization="fp8" if fp8 else "none")
            )
        except UnsupportedRequest:
            continue
        possible.append(tp)
    return tuple(possible)


@pytest.mark.parametrize("size", SIZES)
def test_shapes_allow_what_a_conversion_allows(size: str) -> None:
    shape = model_shapes.SHAPES[size]
    assert shape.tensor_parallel == accepted(size, fp8=False)
    assert shape.fp8_tensor_parallel == accepted(size, fp8=True)


def test_defaults_are_those_of_the_runtime() -> None:
    ours, runtimes = Serving(), ServingSettings(artefact=Path())
    assert ours.max_queue == runtimes.max_queue
    assert ours.kv_cache_fraction == runtimes.kv_cache_fraction


def test_sizes_are_those_of_the_builder() -> None:
    assert set(model_shapes.SHAPES) == set(SIZES)


@pytest.mark.parametrize(
    ("repository", "size"),
    [
        ("llm-jp/llm-jp-3-13b", "13b"),
        ("llm-jp/llm-jp-3-13b-instruct3", "13b"),
        ("llm-jp/llm-jp-3.1-13b-instruct4", "13b"),
        ("llm-jp/llm-jp-3-1.8b-instruct", "1.8b"),
        ("llm-jp/llm-jp-3-172b-beta1", "172b"),
        ("llm-jp/llm-jp-3-8x13b", None),
        ("llm-jp/llm-jp-3-8x1.8b-instruct3", None),
        ("llm-jp/llm-jp-13b-v2.0", None),
        ("llm-jp/llm-jp-3-1x8b", None),
        ("somebody/llm-jp-3-13b", None),
    ],
)
def test_repositories_of_a_size(repository: str, size: str | None) -> None:
    patterns = {size: model_shapes.build_repository_pattern(size) for size in model_shapes.SHAPES}
    matching = [name for name, pattern in patterns.items() if re.fullmatch(pattern, repository)]
    assert matching == ([] if size is None else [size])


@pytest.mark.parametrize("gpu", GPU_TYPES, ids=lambda gpu: gpu.name)
def test_gpus_without_fp8_are_known(gpu: GpuType) -> None:
    for product in gpu.products:
        assert (re.fullmatch(BEFORE_ADA, product) is None) is gpu.fp8


@pytest.mark.parametrize("product", ["Tesla-T4", "NVIDIA-A10", "NVIDIA-A800-SXM4-80GB"])
def test_gpus_without_fp8_are_recognized(product: str) -> None:
    assert re.fullmatch(BEFORE_ADA, product)


@pytest.mark.parametrize("product", ["NVIDIA-L4", "NVIDIA-GH200-480GB", "NVIDIA-RTX-6000-Ada"])
def test_gpus_with_fp8_are_not_taken_for_older_ones(product: str) -> None:
    assert not re.fullmatch(BEFORE_ADA, product)


def test_derived_names_are_labels() -> None:
    for suffix in (HEADLESS_SUFFIX, STORE_SUFFIX):
        assert MAX_MODEL_NAME + len(suffix) <= 63


def test_every_runtime_names_an_image_with_a_tag() -> None:
    assert DEFAULT_RUNTIME in RUNTIMES
    assert all(row.image.count(":") == 1 for row in RUNTIMES.values())
