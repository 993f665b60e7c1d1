"""What compiling reads of a checkpoint's config.json."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmjp_builder.compile.model import parse_compiler_model
from llmjp_builder.contracts.errors import BadConfig, UnsupportedRequest
from tests.support.shared import shared


def golden(case: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        (shared("trtllm-golden") / case / "ckpt" / "config.json").read_bytes()
    )
    return document


@pytest.mark.parametrize(
    ("case", "weights", "kv", "tp", "pp"),
    [
        ("bf16_tp2pp2", False, False, 2, 2),
        ("fp8_tp2", True, True, 2, 1),
        ("fp8_tp2_nokv", True, False, 2, 1),
    ],
)
def test_goldens(case: str, weights: bool, kv: bool, tp: int, pp: int) -> None:
    model = parse_compiler_model(golden(case), case)
    assert (model.weights_fp8, model.kv_fp8) == (weights, kv)
    assert (model.tensor_parallel, model.pipeline_parallel, model.world) == (tp, pp, tp * pp)
    assert (model.max_positions, model.dtype) == (128, "bfloat16")


@pytest.mark.parametrize(
    ("scaling", "positions"),
    [
        (None, 128),
        ({"type": "linear", "factor": 2.5}, 320),
        ({"rope_type": "dynamic", "factor": 2}, 256),
        ({"rope_type": "llama3", "factor": 8.0}, 128),
        ({"type": "longrope", "factor": 8.0}, 128),
        ({"type": "su", "factor": 8.0}, 128),
        ({"type": "linear"}, 128),
    ],
)
def test_positions_with_rope_scaling(scaling: dict[str, Any] | None, positions: int) -> None:
    document = golden("bf16_tp1") | {"rotary_scaling": scaling}
    assert parse_compiler_model(document, "c").max_positions == positions


@pytest.mark.parametrize(
    ("change", "kind", "names"),
    [
        ({"architecture": "MixtralForCausalLM"}, UnsupportedRequest, "MixtralForCausalLM"),
        ({"quantization": {"quant_algo": "W4A16_AWQ"}}, UnsupportedRequest, "W4A16_AWQ"),
        ({"quantization": {"kv_cache_quant_algo": "INT8"}}, UnsupportedRequest, "INT8"),
        ({"quantization": None}, BadConfig, "quantization"),
        ({"mapping": {"tp_size": 0, "pp_size": 1}}, BadConfig, "tp_size"),
        ({"mapping": []}, BadConfig, "mapping"),
        ({"dtype": 16}, BadConfig, "dtype"),
        ({"hidden_size": "64"}, BadConfig, "hidden_size"),
        ({"max_position_embeddings": True}, BadConfig, "max_position_embeddings"),
    ],
)
def test_refused(change: dict[str, Any], kind: type[Exception], names: str) -> None:
    with pytest.raises(kind, match=names):
        parse_compiler_model(golden("bf16_tp1") | change, "config.json")
