"""Llama: the tensors of TensorRT-LLM and those of Hugging Face that they are made of, as literals.

Names and divisions: the key map of TensorRT-LLM's tensorrt_llm/models/model_weights_loader.py and
tensorrt_llm/models/llama/convert.py. Its `fc` is Hugging Face's gate_proj, its `gate` is up_proj.
In FP8, linear layers that take the same input share their scales (`preprocess_linear_fusion` of
modelopt/torch/export/quant_utils.py).

Sizes: d hidden, f MLP, q and k all query and key heads, v vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_builder.convert.splits import (
    ColumnSplit,
    HeadSplit,
    NoSplit,
    PaddedRowSplit,
    RowSplit,
    ScaleRule,
    SourcePart,
    Split,
    TensorRule,
)

if TYPE_CHECKING:
    from llmjp_builder.convert.layout import Layout
    from llmjp_builder.convert.model_config import ModelConfig

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
LINEAR = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
"""The linear layers of a decoder layer, all of which FP8 quantises."""


def list_rules(config: ModelConfig, layout: Layout, stage: int) -> tuple[TensorRule, ...]:
    """List the tensors of every rank of one pipeline stage; layers count from 0 within it."""
    layers = layout.select_layers(stage, config.num_layers)
    first, last = stage == 0, stage == layout.pipeline_parallel - 1
    return (
        *(_list_embedding_rules(config, layout) if first else ()),
        *(
            rule
            for local, i in enumerate(layers)
            for rule in _list_layer_rules(config, layout, i, local)
        ),
        *(_list_output_rules(config) if last else ()),
    )


def list_scales(config: ModelConfig, layout: Layout, stage: int) -> tuple[ScaleRule, ...]:
    """List the activation scales that every rank of one pipeline stage holds; FP8 only."""
    if layout.quantization == "none":
        return ()
    layers = layout.select_layers(stage, config.num_layers)
    return tuple(
        scale
        for local, i in enumerate(layers)
        for scale in _list_layer_scales(i, local, kv=layout.kv_cache == "fp8")
    )


def list_linear_modules(config: ModelConfig) -> tuple[str, ...]:
    """List Hugging Face's names of the linear layers that FP8 quantises."""
    return tuple(f"model.layers.{i}.{name}" for i in range(config.num_layers) for name in LINEAR)


def list_attention_modules(config: ModelConfig) -> tuple[str, ...]:
    """List Hugging Face's names of the modules that fill the KV cache."""
    return tuple(f"model.layers.{i}.self_attn" for i in range(config.num_layers))


def list_ignored(config: ModelConfig) -> dict[str, str]:
    """List tensors that a checkpoint may have and that are dropped on purpose, with the reason."""
    layers = (f"model.layers.{i}.self_attn.rotary_emb.inv_freq" for i in range(config.num_layers))
    return dict.fromkeys(("model.rotary_emb.inv_freq", *layers), "computed from rope_theta")


def list_duplicates(config: ModelConfig) -> dict[str, str]:
    """List tensors that may repeat another one, by name; the two must be equal, byte for byte."""
    return {HEAD: EMBEDDING} if config.tied_embeddings else {}


def _list_embedding_rules(c: ModelConfig, layout: Layout) -> tuple[TensorRule, ...]:
    split: Split
    match layout.embedding_sharding_dim:
        case None:
            split = NoSplit()
        case 0:
            split = PaddedRowSplit()
        case 1:
            split = ColumnSplit()
    table = SourcePart(EMBEDDING, (c.vocab_size, c.hidden_size), split)
    return (TensorRule("transformer.vocab_embedding.weight", (table,)),)


def _list_layer_rules(c: ModelConfig, layout: Layout, i: int, local: int) -> tuple[TensorRule, ...]:
    d, f = c.hidden_size, c.intermediate_size
    q, k = c.num_heads * c.head_size, c.num_kv_heads * c.head_size
    zeros, fp8 = layout.intermediate_padding, layout.quantization == "fp8"
    hf, trt = f"model.layers.{i}.", f"transformer.layers.{local}."
    attention, mlp = hf + "self_attn.", hf + "mlp."
    qkv = (
        SourcePart(attention + "q_proj.weight", (q, d), HeadSplit(c.num_heads)),
        SourcePart(attention + "k_proj.weight", (k, d), HeadSplit(c.num_kv_heads)),
        SourcePart(attention + "v_proj.weight", (k, d), HeadSplit(c.num_kv_heads)),
    )
    linear = (
        ("attention.qkv", qkv, attention + "qkv"),
        (
            "attention.dense",
            (SourcePart(attention + "o_proj.weight", (d, q), ColumnSplit()),),
            attention + "o",
        ),
        (
            "mlp.fc",
            (SourcePart(mlp + "gate_proj.weight", (f, d), RowSplit(zeros)),),
            mlp + "gate_up",
        ),
        (
            "mlp.gate",
            (SourcePart(mlp + "up_proj.weight", (f, d), RowSplit(zeros)),),
            mlp + "gate_up",
        ),
        (
            "mlp.proj",
            (SourcePart(mlp + "down_proj.weight", (d, f), ColumnSplit(zeros)),),
            mlp + "down",
        ),
    )
    norms = (
        ("input_layernorm", "input_layernorm"),
        ("post_layernorm", "post_attention_layernorm"),
    )
    return (
        *(
            TensorRule(f"{trt}{target}.weight", parts, group if fp8 else None)
            for target, parts, group in linear
        ),
        *(
            TensorRule(
                f"{trt}{target}.weight", (SourcePart(f"{hf}{source}.weight", (d,), NoSplit()),)
            )
            for target, source in norms
        ),
    )


def _list_layer_scales(i: int, local: int, *, kv: bool) -> tuple[ScaleRule, ...]:
    """List a layer's scales.

    KV scales are at least 1, as in `get_kv_cache_scaling_factor` of modelopt.
    """
    attention, mlp = f"model.layers.{i}.self_attn.", f"model.layers.{i}.mlp."
    trt, key, value = f"transformer.layers.{local}.", attention + "k", attention + "v"
    inputs = (
        ("attention.qkv", tuple(f"{attention}{letter}_proj" for letter in "qkv")),
        ("attention.dense", (attention + "o_proj",)),
        ("mlp.fc", (mlp + "gate_proj", mlp + "up_proj")),
        ("mlp.gate", (mlp + "gate_proj", mlp + "up_proj")),
        ("mlp.proj", (mlp + "down_proj",)),
    )
    cache = (("k_cache", (key,)), ("v_cache", (value,)), ("kv_cache", (key, value)))
    return (
        *(ScaleRule(f"{trt}{name}.activation_scaling_factor", amax_of) for name, amax_of in inputs),
        *(
            ScaleRule(f"{trt}attention.{name}_scaling_factor", amax_of, least=1.0)
            for name, amax_of in cache
            if kv
        ),
    )


def _list_output_rules(c: ModelConfig) -> tuple[TensorRule, ...]:
    v, d = c.vocab_size, c.hidden_size
    head = EMBEDDING if c.tied_embeddings else HEAD
    return (
        TensorRule("transformer.ln_f.weight", (SourcePart("model.norm.weight", (d,), NoSplit()),)),
        TensorRule("lm_head.weight", (SourcePart(head, (v, d), PaddedRowSplit()),)),
    )
