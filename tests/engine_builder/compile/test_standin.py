"""The stand-in against what was recorded of the real thing, and against the loader's rules."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine_builder.compile.rank_files import drop, reshape, rewritten
from tests.support.shared import shared
from tests.support.trtllm_build.engine_config import pretrained
from tests.support.trtllm_build.loader import check_config, load, required_tensors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RECORDED = [
    "--max_batch_size",
    "8",
    "--max_input_len",
    "64",
    "--max_seq_len",
    "128",
    "--max_num_tokens",
    "512",
]
CASES = (
    "bf16_from_fp32_tp2", "bf16_pp2_oddlayers", "bf16_tp1", "bf16_tp2", "bf16_tp2_headdim32",
    "bf16_tp2_mha", "bf16_tp2_parallel_emb0", "bf16_tp2_parallel_emb1", "bf16_tp2_sharded",
    "bf16_tp2_tied", "bf16_tp2pp2", "bf16_tp4_kvdup", "fp16_from_fp32_auto_tp2", "fp8_tp1",
    "fp8_tp2", "fp8_tp2_nokv", "fp8_tp2pp2", "fp8_tp4_kvdup",
)  # fmt: skip


def checkpoint(case: str) -> Path:
    return shared("trtllm-golden") / case / "ckpt"


def config_of(case: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((checkpoint(case) / "config.json").read_bytes())
    return document


@pytest.mark.usefixtures("standin")
@pytest.mark.parametrize("kind", ["bf16", "fp8"])
def test_its_engine_config_is_the_recorded_one(kind: str, tmp_path: Path) -> None:
    source = checkpoint(f"{kind}_tp2")
    arguments = ["--checkpoint_dir", str(source), "--output_dir", "e", *RECORDED]
    subprocess.run(["trtllm-build", *arguments], cwd=tmp_path, check=True, capture_output=True)
    recorded = shared("trtllm-golden") / f"engine_config_{kind}_tp2.json"
    assert json.loads((tmp_path / "e" / "config.json").read_bytes()) == json.loads(
        recorded.read_bytes()
    )


@pytest.mark.usefixtures("standin")
@pytest.mark.parametrize(
    "arguments", [["--frobnicate"], ["--gemm_plugin", "int8"], ["--max_seq_len", "many"]]
)
def test_it_takes_recorded_arguments_only(arguments: list[str]) -> None:
    done = subprocess.run(["trtllm-build", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "trtllm-build: error:" in done.stderr


@pytest.mark.parametrize("case", CASES)
def test_it_loads_every_golden_without_a_word(case: str) -> None:
    config = config_of(case)
    check_config(config)
    for rank in range(config["mapping"]["world_size"]):
        assert load(checkpoint(case), config, rank) == []


KV = "transformer.layers.0.attention.kv_cache_scaling_factor"
QKV = "transformer.layers.0.attention.qkv.weight"
SCALE = "transformer.layers.0.mlp.fc.weights_scaling_factor"


@pytest.mark.parametrize(
    ("case", "change", "message"),
    [
        ("bf16_tp2", drop(QKV), "Required but not provided tensors"),
        ("fp8_tp2", drop(KV), "Required but not provided tensors"),
        ("fp8_tp2", drop(SCALE), "Required but not provided tensors"),
        ("bf16_tp2", reshape(QKV, [64, 63]), "Encounter error .* for parameter"),
        ("bf16_pp2_oddlayers", drop("transformer.ln_f.weight"), None),
    ],
)
def test_refused_tensors(
    case: str, change: Callable[[dict[str, Any]], None], message: str | None, tmp_path: Path
) -> None:
    rank = 1 if message is None else 0
    rewritten(checkpoint(case), tmp_path, change, rank)
    with pytest.raises(RuntimeError, match=message):
        load(tmp_path, config_of(case), rank)


def test_accepted_oddities(tmp_path: Path) -> None:
    rewritten(checkpoint("fp8_tp2"), tmp_path, reshape(SCALE, []))
    assert load(tmp_path, config_of("fp8_tp2"), 0) == []
    rewritten(checkpoint("bf16_tp2"), tmp_path, drop("lm_head.weight"))
    assert load(tmp_path, config_of("bf16_tp2"), 0) == []

    def add(header: dict[str, Any]) -> None:
        header["transformer.extra"] = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}

    rewritten(checkpoint("bf16_tp2"), tmp_path, add)
    assert "Provided but not required" in load(tmp_path, config_of("bf16_tp2"), 0)[0]


@pytest.mark.parametrize("part", ["mapping", "quantization"])
def test_unknown_keys_are_type_errors(part: str) -> None:
    config = config_of("bf16_tp1")
    config[part]["rank"] = 0
    with pytest.raises(TypeError, match="unexpected keyword argument 'rank'"):
        check_config(config)


def test_excluded_modules_decide_over_scales_of_the_head() -> None:
    config = config_of("fp8_tp1")
    for patterns, needed in ((["lm_head"], False), (None, False), ([], True)):
        config["quantization"]["exclude_modules"] = patterns
        names = dict(required_tensors(config, 0))
        assert ("lm_head.weights_scaling_factor" in names) is needed


def test_a_short_config_is_completed() -> None:
    full = config_of("bf16_tp2")
    short = {
        key: full[key]
        for key in (
            "architecture", "dtype", "logits_dtype", "vocab_size", "max_position_embeddings",
            "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
            "head_size", "intermediate_size", "hidden_act", "norm_epsilon",
            "position_embedding_type", "rotary_base", "rotary_scaling",
        )
    } | {
        "mapping": {"world_size": 2, "tp_size": 2, "pp_size": 1},
        "quantization": {"quant_algo": None, "kv_cache_quant_algo": None},
    }  # fmt: skip
    assert pretrained(short) == pretrained(full)
