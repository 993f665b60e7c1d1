"""Memory that building and serving need, by the builder's planning."""

from __future__ import annotations

import dataclasses

import pytest

from llmjp_operator.decide.sizing import estimate_resources
from tests.operator.factories import FOUND, make_model
from tests.operator.model_bodies import Object

MIB = 1 << 20

YARN: Object = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}
OTHERWISE: Object = {**YARN, "truncate": False}
"""TensorRT-LLM would compute another ramp."""


def serving_bytes(**engine: object) -> int:
    fields: Object = {"backend": "torch", "maxSeqLen": 512, **engine}
    needed = estimate_resources(make_model({"engine": fields}).spec, FOUND).serving_memory_bytes
    assert needed is not None
    return needed


def test_without_a_gpu_weights_are_float32_in_memory_whatever_they_are_on_disk() -> None:
    """FP8 needs as much as bfloat16; a little more is taken for what stays bfloat16 on disk."""
    bf16, fp8 = serving_bytes(), serving_bytes(quantization="fp8")
    assert bf16 <= fp8 < bf16 + 10 * MIB


def test_keys_and_values_are_sized_for_few_sequences() -> None:
    one, eight, many = (serving_bytes(maxBatchSize=size) for size in (1, 8, 64))
    assert one < eight == many


@pytest.mark.parametrize(
    ("scaling", "backend", "words"),
    [
        (YARN, "torch", None),
        (YARN, "tensorrt", None),
        (OTHERWISE, "torch", None),
        (OTHERWISE, "tensorrt", "truncate is false"),
        (OTHERWISE, "pytorch", "truncate is false"),
        ({"rope_type": "dynamic", "factor": 2.0}, "torch", "rope_type is 'dynamic'"),
        ({"rope_type": "longrope"}, "pytorch", "rope_type is 'longrope'"),
    ],
)
def test_what_a_backend_would_not_serve_is_refused_before_a_build(
    scaling: Object, backend: str, words: str | None
) -> None:
    found = dataclasses.replace(FOUND, config={**FOUND.config, "rope_scaling": scaling})
    hardware = None if backend == "torch" else {"gpuProduct": "NVIDIA-H100-80GB-HBM3"}
    changes: Object = {"engine": {"backend": backend, "maxSeqLen": 512}, "hardware": hardware}
    refusal = estimate_resources(make_model(changes).spec, found).refusal
    if words is None:
        assert refusal is None
    else:
        assert refusal is not None
        assert words in refusal
