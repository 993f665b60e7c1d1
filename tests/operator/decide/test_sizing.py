"""Memory that building and serving need, by the builder's planning."""

from __future__ import annotations

from llmjp_operator.decide.sizing import estimate_resources
from tests.operator.factories import FOUND, make_model
from tests.operator.model_bodies import Object

MIB = 1 << 20


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
