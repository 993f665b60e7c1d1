"""Our config.json against TensorRT-LLM's, both ways: no key may differ, be invented or be missing.

A key that upstream writes may be missing from ours only if `list_omissions` names it and upstream's
value is the one that loaders assume anyway. Reasons are given there, since this list is where a
key that we forget could hide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NESTED = ("mapping", "quantization")
"""Objects that are compared key by key; every other value is compared whole."""


@dataclass(frozen=True)
class Omission:
    """Why a key of upstream's is missing from ours, and the values that this reason holds for."""

    reason: str
    values: tuple[Any, ...]


_DENSE_LLAMA = Omission(
    "default of LLaMAConfig: a Llama without biases or norms of Q and K", (False,)
)
_VARIANTS = Omission("default of LLaMAConfig: belongs to other architectures", (False,))
_UNIT = Omission("default of LLaMAConfig: a factor that plain Llama does not have", (1.0,))
_NO_MOE = Omission(
    "default of LLaMAConfig: no experts",
    (
        {
            "num_experts": 0,
            "shared_expert_intermediate_size": 0,
            "top_k": 0,
            "normalization_mode": None,
            "sparse_mixer_epsilon": 0.01,
            "tp_mode": 0,
            "device_limited_n_group": 0,
            "device_limited_topk_group": 0,
            "device_limited_routed_scaling_factor": 1.0,
        },
    ),
)
_FIXED = {
    **dict.fromkeys(
        ("mlp_bias", "attn_bias", "bias", "lm_head_bias", "qk_layernorm"), _DENSE_LLAMA
    ),
    **dict.fromkeys(
        (
            "residual_mlp",
            "disable_weight_only_quant_plugin",
            "remove_duplicated_kv_heads",
            "fc_after_embed",
            "has_partial_lora_mask",
        ),
        _VARIANTS,
    ),
    **dict.fromkeys(
        (
            "embedding_multiplier",
            "attention_multiplier",
            "residual_multiplier",
            "output_multiplier_scale",
            "rotary_pct",
        ),
        _UNIT,
    ),
    "moe": _NO_MOE,
    "use_input_layernorm_in_first_layer": Omission("default of LLaMAConfig", (True,)),
    "use_last_layernorm": Omission("default of LLaMAConfig", (True,)),
    "layer_idx_offset": Omission("default of LLaMAConfig", (0,)),
    "runtime_defaults": Omission("default of PretrainedConfig: none", (None,)),
    "use_parallel_embedding": Omission("default of PretrainedConfig: not sharded", (False,)),
    "tie_word_embeddings": Omission("lm_head.weight is always written, tied or not", (False, True)),
    "share_embedding_table": Omission("modelopt's word for tied embeddings; as above", (False,)),
    "producer": Omission("modelopt's signature", ({"name": "modelopt", "version": "0.37.0"},)),
    "decoder": Omission("modelopt's name of the architecture", ("llama",)),
    "model_type": Omission("modelopt's name of the architecture", ("llama",)),
    "rmsnorm": Omission("modelopt's way to say Llama", (True,)),
    # Loaders refuse keys of `mapping` and `quantization` that their version does not know.
    "mapping.gpus_per_node": Omission("newer versions only; their default", (8,)),
    "mapping.cp_size": Omission("newer versions only; no context parallelism", (1,)),
    "mapping.moe_cluster_size": Omission("newer versions only; no experts", (1,)),
    "mapping.moe_ep_size": Omission("newer versions only; no experts", (1,)),
    "mapping.attn_cp_size": Omission("newer versions only; no context parallelism", (-1, 1)),
    "mapping.cp_config": Omission("newer versions only; no context parallelism", ({},)),
    "mapping.enable_attention_dp": Omission("newer versions only; their default", (False,)),
    "mapping.enable_lm_head_tp_in_adp": Omission("newer versions only; their default", (False,)),
    "quantization.group_size": Omission("for quantisation in groups, which this is not", (128,)),
    "quantization.smoothquant_val": Omission("for SmoothQuant, which this is not", (0.5,)),
    "quantization.clamp_val": Omission("for FP8 by row, which this is not", (None,)),
    "quantization.use_meta_recipe": Omission("for FP8 by row, which this is not", (False,)),
    "quantization.has_zero_point": Omission("for AWQ, which this is not", (False,)),
    "quantization.pre_quant_scale": Omission("for AWQ, which this is not", (False,)),
    "quantization.exclude_modules": Omission("nothing is quantised", (None,)),
    "quantization.mamba_ssm_cache_dtype": Omission("for Mamba, which this is not", (None,)),
}


def list_omissions(theirs: Mapping[str, Any]) -> dict[str, Omission]:
    """Return every key that may be missing beside upstream's document, by dotted name."""
    mapping = theirs["mapping"]
    tp, sharded = mapping["tp_size"], theirs.get("use_parallel_embedding", False)
    return {
        **_FIXED,
        "embedding_sharding_dim": Omission("nothing is sharded", () if sharded else (0,)),
        "rotary_embedding_dim": Omission("RoPE turns whole heads", (theirs["head_size"],)),
        "rank": Omission("of the file that modelopt wrote last", (mapping["world_size"] - 1,)),
        "mapping.moe_tp_size": Omission("newer versions only; no experts", (tp,)),
        "mapping.attn_tp_size": Omission("newer versions only; as tp_size", (-1, tp)),
    }


def list_differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return a sentence for every key with which our config.json does not say what theirs says."""
    omissions = list_omissions(theirs)
    our_values, their_values = _flatten(ours), _flatten(theirs)
    found = [f"{key}: upstream has no such key" for key in our_values.keys() - their_values.keys()]
    for key, value in their_values.items():
        if key in our_values:
            if our_values[key] != value:
                found.append(f"{key}: ours {our_values[key]!r}, upstream's {value!r}")
        elif key not in omissions:
            found.append(f"{key}: missing; upstream's is {value!r}")
        elif value not in omissions[key].values:
            found.append(f"{key}: missing ({omissions[key].reason}), but upstream's is {value!r}")
    return sorted(found)


def _flatten(document: Mapping[str, Any]) -> dict[str, Any]:
    flat = {key: value for key, value in document.items() if key not in NESTED}
    for section in NESTED:
        flat |= {f"{section}.{key}": value for key, value in document[section].items()}
    return flat
