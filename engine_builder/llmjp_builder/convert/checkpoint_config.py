"""config.json of a TensorRT-LLM checkpoint, in the short form that old and new versions load. Pure.

Loaders refuse unknown keys inside `mapping` and `quantization` (TensorRT-LLM,
tensorrt_llm/models/modeling_utils.py), so only the keys that every version knows are written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmjp_builder.convert.layout import Layout
    from llmjp_builder.convert.model_config import ModelConfig


def render_checkpoint_config(config: ModelConfig, layout: Layout) -> dict[str, Any]:
    """Render the document that describes all ranks; vocab_size is the unpadded one.

    The logits' type is that of TensorRT-LLM's own converter, and for FP8 that of modelopt.
    """
    fp8, padding = layout.quantization == "fp8", layout.intermediate_padding
    document: dict[str, Any] = {
        "architecture": config.architecture,
        "dtype": layout.dtype,
        "logits_dtype": "float16" if fp8 else "float32",
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_position_embeddings,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_size": config.head_size,
        "intermediate_size": config.intermediate_size + padding * layout.tensor_parallel,
        "hidden_act": config.hidden_act,
        "norm_epsilon": config.norm_epsilon,
        "position_embedding_type": "rope_gpt_neox",
        "rotary_base": config.rope_theta,
        "rotary_scaling": config.rope_scaling,
        "mapping": {
            "world_size": layout.world,
            "tp_size": layout.tensor_parallel,
            "pp_size": layout.pipeline_parallel,
        },
        "quantization": {
            "quant_algo": "FP8" if fp8 else None,
            "kv_cache_quant_algo": "FP8" if layout.kv_cache == "fp8" else None,
            **({"exclude_modules": ["lm_head"]} if fp8 else {}),
        },
    }
    if layout.embedding_sharding_dim is not None:
        document["use_parallel_embedding"] = True
        document["embedding_sharding_dim"] = layout.embedding_sharding_dim
    return document
