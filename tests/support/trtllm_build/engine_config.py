"""config.json of an engine: what the real `trtllm-build` makes of arguments and checkpoint.

Written from the recorded rules, apart from the builder's own (`llmjp_builder.compile.rules`), so
that a test can hold one against the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

_MOE = {
    "num_experts": 0, "shared_expert_intermediate_size": 0, "top_k": 0, "normalization_mode": None,
    "sparse_mixer_epsilon": 0.01, "tp_mode": 0, "device_limited_n_group": 0,
    "device_limited_topk_group": 0, "device_limited_routed_scaling_factor": 1.0,
}  # fmt: skip
_PRETRAINED: dict[str, Any] = {
    "mlp_bias": False, "attn_bias": False, "residual_mlp": False,
    "disable_weight_only_quant_plugin": False, "moe": _MOE, "remove_duplicated_kv_heads": False,
    "fc_after_embed": False, "use_input_layernorm_in_first_layer": True, "use_last_layernorm": True,
    "layer_idx_offset": 0, "embedding_multiplier": 1.0, "attention_multiplier": 1.0,
    "residual_multiplier": 1.0, "output_multiplier_scale": 1.0, "has_partial_lora_mask": False,
    "runtime_defaults": None, "use_parallel_embedding": False, "embedding_sharding_dim": 0,
    "qk_layernorm": False, "tie_word_embeddings": False,
}  # fmt: skip
_MAPPING: dict[str, Any] = {
    "gpus_per_node": 8, "cp_size": 1, "moe_cluster_size": 1, "moe_ep_size": 1, "cp_config": {},
    "enable_attention_dp": False, "enable_lm_head_tp_in_adp": False,
}  # fmt: skip
_QUANTIZATION: dict[str, Any] = {
    "group_size": 128, "smoothquant_val": 0.5, "clamp_val": None, "use_meta_recipe": False,
    "has_zero_point": False, "pre_quant_scale": False, "exclude_modules": None,
    "mamba_ssm_cache_dtype": None,
}  # fmt: skip
_FIXED_PLUGINS: dict[str, Any] = {
    "qserve_gemm_plugin": None, "identity_plugin": None,
    "weight_only_groupwise_quant_matmul_plugin": None, "weight_only_quant_matmul_plugin": None,
    "smooth_quant_plugins": True, "smooth_quant_gemm_plugin": None,
    "layernorm_quantization_plugin": None, "rmsnorm_quantization_plugin": None,
    "quantize_per_token_plugin": False, "quantize_tensor_plugin": False, "paged_kv_cache": True,
    "paged_state": False,
}  # fmt: skip
_SWITCHES = (
    "dora_plugin", "context_fmha", "bert_context_fmha_fp32_acc", "remove_input_padding",
    "norm_quant_fusion", "reduce_fusion", "user_buffer", "use_paged_context_fmha",
    "use_fp8_context_fmha", "fuse_fp4_quant", "multiple_profiles", "streamingllm", "use_fused_mlp",
    "pp_reduce_scatter",
)  # fmt: skip
_VALUES = (
    "bert_attention_plugin", "gpt_attention_plugin", "gemm_plugin", "gemm_swiglu_plugin",
    "fp8_rowwise_gemm_plugin", "lora_plugin", "moe_plugin", "mamba_conv1d_plugin",
    "low_latency_gemm_plugin", "low_latency_gemm_swiglu_plugin", "gemm_allreduce_plugin",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the arguments come to."""

    document: dict[str, Any]
    """config.json of the engine."""
    warnings: list[str]


def outcome(
    args: argparse.Namespace, checkpoint: dict[str, Any], *, sm: int, version: str
) -> Outcome:
    """Raises as the real command does for arguments that exclude each other."""
    if args.multiple_profiles == "enable" and args.opt_num_tokens is not None:
        raise RuntimeError("multiple_profiles is enabled, while opt_num_tokens is set.")
    warnings: list[str] = []
    plugins = _plugins(args, checkpoint, sm, warnings)
    build = _build(args, checkpoint, plugins, warnings)
    if args.logits_dtype:
        checkpoint = {**checkpoint, "logits_dtype": args.logits_dtype}
    return Outcome(
        {
            "version": version,
            "pretrained_config": pretrained(checkpoint),
            "build_config": build,
        },
        warnings,
    )


def pretrained(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint's own config.json, completed as the real classes complete it."""
    tp = checkpoint["mapping"]["tp_size"]
    derived = {"rotary_embedding_dim": checkpoint["head_size"]}
    mapping = {**_MAPPING, "moe_tp_size": tp, **checkpoint["mapping"]}
    mapping |= {"attn_tp_size": tp, "attn_cp_size": mapping["cp_size"]}
    quantization = {**_QUANTIZATION, **checkpoint["quantization"]}
    return _PRETRAINED | derived | checkpoint | {"mapping": mapping, "quantization": quantization}


def _plugins(
    args: argparse.Namespace, checkpoint: dict[str, Any], sm: int, warnings: list[str]
) -> dict[str, Any]:
    plugins: dict[str, Any] = {"dtype": checkpoint["dtype"], **_FIXED_PLUGINS}
    plugins |= {name: getattr(args, name) == "enable" for name in _SWITCHES}
    for name in _VALUES:
        value = getattr(args, name)
        plugins[name] = None if value == "disable" else value
    plugins |= {"tokens_per_block": args.tokens_per_block, "manage_weights": args.fast_build}
    tp, world = checkpoint["mapping"]["tp_size"], checkpoint["mapping"]["world_size"]
    plugins["nccl_plugin"] = checkpoint["dtype"] if world > 1 else None

    def override(name: str, value: object) -> None:
        if plugins[name] != value:
            warnings.append(f"Overriding {name} to {value}")
            plugins[name] = value

    if tp == 1:
        override("reduce_fusion", value=False)
    if not plugins["reduce_fusion"]:
        override("user_buffer", value=False)
    override("norm_quant_fusion", value=False)
    quant = checkpoint["quantization"]
    fp8, kv = quant.get("quant_algo") == "FP8", quant.get("kv_cache_quant_algo") == "FP8"
    match (plugins["context_fmha"], fp8 and sm >= 89, kv):
        case (False, _, _):
            override("use_fp8_context_fmha", value=False)
            override("use_paged_context_fmha", value=False)
        case (True, False, _):
            override("use_fp8_context_fmha", value=False)
            if kv:
                override("use_paged_context_fmha", value=False)
        case (True, True, _) if plugins["use_paged_context_fmha"]:
            override("use_fp8_context_fmha", kv)
    return plugins


def _build(
    args: argparse.Namespace,
    checkpoint: dict[str, Any],
    plugins: dict[str, Any],
    warnings: list[str],
) -> dict[str, Any]:
    seq = args.max_seq_len
    if seq is None:
        scaling = checkpoint.get("rotary_scaling") or {}
        kind = scaling.get("type", scaling.get("rope_type"))
        factor = 1 if kind in {"su", "longrope", "llama3"} else scaling.get("factor", 1)
        seq = math.ceil(checkpoint["max_position_embeddings"] * factor)
    elif seq > checkpoint["max_position_embeddings"]:
        warnings.append(f"max_seq_len {seq} is larger than max_position_embeddings")
    max_input = min(args.max_input_len, seq)
    tokens, opt = _tokens(args, seq, max_input, packed=plugins["remove_input_padding"])
    return {
        "max_input_len": max_input,
        "max_seq_len": seq,
        "opt_batch_size": 8,
        "max_batch_size": args.max_batch_size,
        "max_beam_width": args.max_beam_width,
        "max_num_tokens": tokens,
        "opt_num_tokens": opt,
        "max_prompt_embedding_table_size": args.max_prompt_embedding_table_size,
        "kv_cache_type": getattr(args, "kv_cache_type", "paged"),
        "gather_context_logits": args.gather_context_logits or args.gather_all_token_logits,
        "gather_generation_logits": args.gather_generation_logits or args.gather_all_token_logits,
        "strongly_typed": True,
        "force_num_profiles": None,
        "profiling_verbosity": args.profiling_verbosity,
        "enable_debug_output": args.enable_debug_output,
        "max_draft_len": args.max_draft_len,
        "speculative_decoding_mode": 1,
        "use_refit": False,
        "input_timing_cache": args.input_timing_cache,
        "output_timing_cache": args.output_timing_cache,
        "lora_config": {
            "lora_dir": [],
            "lora_ckpt_source": "hf",
            "max_lora_rank": 64,
            "lora_target_modules": [],
            "trtllm_modules_to_hf_modules": {},
            "max_loras": None,
            "max_cpu_loras": None,
            "swap_gate_up_proj_lora_b_weight": True,
        },
        "weight_sparsity": args.weight_sparsity,
        "weight_streaming": args.weight_streaming,
        "plugin_config": plugins,
        "use_strip_plan": args.strip_plan,
        "max_encoder_input_len": args.max_encoder_input_len,
        "monitor_memory": args.monitor_memory,
        "use_mrope": False,
    }


def _tokens(
    args: argparse.Namespace, seq: int, max_input: int, *, packed: bool
) -> tuple[int, int | None]:
    if not packed:
        return args.max_batch_size * seq, args.opt_num_tokens
    tokens, opt = args.max_num_tokens, args.opt_num_tokens
    if opt is None and args.multiple_profiles == "disable":
        opt = min(args.max_batch_size * args.max_beam_width, tokens)
    tokens = min(tokens, seq * args.max_batch_size)
    if args.context_fmha == "disable":
        tokens = max(tokens, max_input)
    else:
        tokens = max(tokens, args.tokens_per_block)
    return tokens, None if opt is None else min(opt, tokens)
