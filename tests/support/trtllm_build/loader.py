"""What the real loader makes of a checkpoint: its recorded rules and its words."""

from __future__ import annotations

import fnmatch
import json
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAPPING = {
    "world_size", "gpus_per_node", "cp_size", "tp_size", "pp_size", "moe_tp_size",
    "moe_cluster_size", "moe_ep_size", "attn_tp_size", "attn_cp_size", "cp_config",
    "enable_attention_dp", "enable_lm_head_tp_in_adp",
}  # fmt: skip
QUANTIZATION = {
    "quant_algo", "kv_cache_quant_algo", "group_size", "smoothquant_val", "clamp_val",
    "use_meta_recipe", "has_zero_point", "pre_quant_scale", "exclude_modules",
    "mamba_ssm_cache_dtype",
}  # fmt: skip
NEVER_QUANTISED = (
    "*lm_head", "*router", "*vocab_embedding", "*position_embedding", "*block_embedding",
    "*shared_expert_gate",
)  # fmt: skip
Shape = tuple[int, ...]


def check_config(config: dict[str, Any]) -> None:
    """Raises TypeError for keys that the real classes do not know."""
    for part, known in (("mapping", MAPPING), ("quantization", QUANTIZATION)):
        for key in config[part]:
            if key not in known:
                cls = {"mapping": "Mapping", "quantization": "QuantConfig"}[part]
                raise TypeError(f"{cls}.__init__() got an unexpected keyword argument '{key}'")


def load(checkpoint: Path, config: dict[str, Any], rank: int) -> list[str]:
    """Warnings of the loader; raises RuntimeError where it does."""
    present = read_shapes(checkpoint / f"rank{rank}.safetensors")
    required = dict(required_tensors(config, rank))
    missing = required.keys() - present.keys()
    if "transformer.vocab_embedding.weight" in present:
        missing -= {"lm_head.weight"}
    if missing:
        raise RuntimeError(f"Required but not provided tensors:{missing}")
    for name, shape in required.items():
        found = present.get(name, shape)
        if found != shape and not (shape == (1,) and found == ()):
            raise RuntimeError(
                f"Encounter error '{found} does not fit {shape}' for parameter '{name}'"
            )
    extra = sorted(name for name in present.keys() - required.keys() if not _optional(name))
    return [f"Provided but not required tensors: {set(extra)}"] if extra else []


def read_shapes(path: Path) -> dict[str, Shape]:
    """Tensor name to shape, from a safetensors header."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return {name: tuple(info["shape"]) for name, info in header.items() if name != "__metadata__"}


def required_tensors(config: dict[str, Any], rank: int) -> Iterator[tuple[str, Shape]]:
    """Name and shape of every tensor that the rank's network needs."""
    mapping, hidden, vocab = config["mapping"], config["hidden_size"], config["vocab_size"]
    tp, pp = mapping["tp_size"], mapping["pp_size"]
    stage = rank // tp
    rows = -(-vocab // tp)
    if stage == 0:
        yield "transformer.vocab_embedding.weight", _embedding(config, tp, rows)
    for layer in range(_layers(config["num_hidden_layers"], pp, stage)):
        for name, shape in _layer(config, tp):
            yield f"transformer.layers.{layer}.{name}", shape
    if stage == pp - 1:
        yield "transformer.ln_f.weight", (hidden,)
        yield "lm_head.weight", (rows, hidden)
        if _is_fp8(config) and not _excluded(config, "lm_head"):
            yield "lm_head.weights_scaling_factor", (1,)
            yield "lm_head.activation_scaling_factor", (1,)


def _embedding(config: dict[str, Any], tp: int, rows: int) -> Shape:
    if not config.get("use_parallel_embedding"):
        return config["vocab_size"], config["hidden_size"]
    if config.get("embedding_sharding_dim", 0) == 0:
        return rows, config["hidden_size"]
    return config["vocab_size"], config["hidden_size"] // tp


def _layers(num_layers: int, pp: int, stage: int) -> int:
    return num_layers // pp + (1 if stage < num_layers % pp else 0)


def _layer(config: dict[str, Any], tp: int) -> Iterator[tuple[str, Shape]]:
    hidden, inner = config["hidden_size"], config["intermediate_size"] // tp
    heads = config["num_attention_heads"] * config["head_size"] // tp
    kv_heads = max(1, config["num_key_value_heads"] // tp) * config["head_size"]
    linears: dict[str, Shape] = {
        "attention.qkv": (heads + 2 * kv_heads, hidden),
        "attention.dense": (hidden, heads),
        "mlp.fc": (inner, hidden),
        "mlp.gate": (inner, hidden),
        "mlp.proj": (hidden, inner),
    }
    for name, shape in linears.items():
        yield f"{name}.weight", shape
        if _is_fp8(config):
            yield f"{name}.weights_scaling_factor", (1,)
            yield f"{name}.activation_scaling_factor", (1,)
    if config["quantization"].get("kv_cache_quant_algo") == "FP8":
        yield "attention.kv_cache_scaling_factor", (1,)
    yield "input_layernorm.weight", (hidden,)
    yield "post_layernorm.weight", (hidden,)


def _is_fp8(config: dict[str, Any]) -> bool:
    return bool(config["quantization"].get("quant_algo") == "FP8")


def _excluded(config: dict[str, Any], name: str) -> bool:
    patterns = config["quantization"].get("exclude_modules")
    return any(
        fnmatch.fnmatch(name, p) for p in (NEVER_QUANTISED if patterns is None else patterns)
    )


def _optional(name: str) -> bool:
    return name.endswith((
        "k_cache_scaling_factor", "v_cache_scaling_factor", "embed_positions", "rotary_inv_freq",
        "embed_positions_for_gpt_attention",
    ))  # fmt: skip
