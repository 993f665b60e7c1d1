"""config.json: both forms load; what is damaged or not a plain Llama is refused by name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from llmjp_runtime.errors import ArtefactInvalid, RuntimeFailure, UnsupportedModel
from llmjp_runtime.executor.torch.config import read_config
from tests.support.shared import shared

from .checkpoints import portable_config, random_llama


@pytest.fixture(scope="module")
def raw() -> dict[str, Any]:
    return portable_config(random_llama().config, tp=2, pp=2, dtype="bfloat16")


def written(folder: Path, raw: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(raw), encoding="utf-8")
    return path


def test_minimal_form(raw: dict[str, Any], tmp_path: Path) -> None:
    config = read_config(written(tmp_path, raw))
    assert (config.dtype, config.vocab_size, config.head_size) == ("bfloat16", 211, 16)
    assert (config.heads_per_rank, config.kv_heads_per_rank) == (4, 1)
    assert (config.world_size, config.vocab_rows_per_rank) == (4, 106)
    assert not config.use_parallel_embedding


def test_long_form() -> None:
    path = shared("trtllm-golden") / "bf16_tp2_parallel_emb1" / "ckpt" / "config.json"
    config = read_config(path)
    assert (config.rotary_base, config.norm_epsilon) == (500000.0, 1e-5)
    assert (config.use_parallel_embedding, config.embedding_sharding_dim) == (True, 1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architecture": "GPTForCausalLM"}, 'architecture "GPTForCausalLM"'),
        ({"hidden_act": "gelu"}, 'hidden_act "gelu"'),
        ({"rotary_scaling": {"type": "dynamic", "factor": 2.0}}, "rotary_scaling"),
        ({"attn_bias": True}, "attn_bias true"),
        ({"qk_layernorm": True}, "qk_layernorm true"),
        ({"position_embedding_type": "alibi"}, 'position_embedding_type "alibi"'),
        ({"quantization": {"quant_algo": "FP8_BLOCK_SCALES"}}, 'quant_algo "FP8_BLOCK_SCALES"'),
        ({"quantization": {"kv_cache_quant_algo": "INT8"}}, 'kv_cache_quant_algo "INT8"'),
        ({"mapping": {"cp_size": 2}}, "mapping.cp_size 2"),
        ({"moe": {"num_experts": 8}}, "moe.num_experts 8"),
        ({"residual_multiplier": 0.5}, "residual_multiplier 0.5"),
    ],
)
def test_other_models_are_refused_by_name(
    raw: dict[str, Any], tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(UnsupportedModel, match=re.escape(says)) as caught:
        read_config(written(tmp_path, raw | change))
    assert caught.value.exit_code == 6


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dtype": "int8"}, 'dtype is "int8"'),
        ({"vocab_size": None}, "vocab_size is null"),
        ({"hidden_size": "64"}, 'hidden_size is "64"'),
        ({"num_hidden_layers": True}, "num_hidden_layers is true"),
        ({"num_hidden_layers": 1}, "num_hidden_layers 1 < pp_size 2"),
        ({"norm_epsilon": 0}, "norm_epsilon is 0"),
        ({"rotary_base": float("nan")}, "rotary_base is NaN"),
        ({"head_size": 15}, "head_size 15 is odd"),
        ({"rotary_embedding_dim": 8}, "rotary_embedding_dim differs"),
        ({"embedding_sharding_dim": 2}, "embedding_sharding_dim is 2"),
        ({"num_key_value_heads": 3}, "neither divides the other"),
        ({"num_key_value_heads": 16}, "not a multiple of num_key_value_heads"),
        ({"mapping": {"world_size": 4, "tp_size": 3, "pp_size": 1}}, "world_size is 4"),
        ({"mapping": {"tp_size": 3}}, "is not a multiple of tp_size 3"),
    ],
)
def test_contradictions_are_refused(
    raw: dict[str, Any], tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(ArtefactInvalid, match=re.escape(says)) as caught:
        read_config(written(tmp_path, raw | change))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"dtype": "bfloat16"}'])
def test_what_is_no_config_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ArtefactInvalid):
        read_config(path)


def test_no_config_at_all(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure, match="cannot be read: No such file"):
        read_config(tmp_path / "config.json")
