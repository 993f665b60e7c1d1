"""Llama: which tensor of TensorRT-LLM is made of which of Hugging Face, as literals.

Names and divisions: the key map of TensorRT-LLM's tensorrt_llm/models/model_weights_loader.py and
tensorrt_llm/models/llama/convert.py. Its `fc` is Hugging Face's gate_proj, its `gate` is up_proj.

Sizes: d hidden, f MLP, q and k all query and key heads, v vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_builder.convert.ops import (
    Columns,
    Heads,
    PaddedRows,
    Part,
    Replicated,
    Rows,
    Rule,
    Split,
)

if TYPE_CHECKING:
    from llmjp_builder.convert.layout import Layout
    from llmjp_builder.convert.model_config import ModelConfig

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"


def rules(config: ModelConfig, layout: Layout, stage: int) -> tuple[Rule, ...]:
    """The tensors of every rank of one pipeline stage; layers count from 0 within the stage."""
    layers = layout.layers_of(stage, config.num_layers)
    first, last = stage == 0, stage == layout.pipeline_parallel - 1
    return (
        *(_embedding(config, layout) if first else ()),
        *(rule for local, i in enumerate(layers) for rule in _layer(config, i, local)),
        *(_output(config) if last else ()),
    )


def ignored(config: ModelConfig) -> dict[str, str]:
    """Tensors that may be there and are dropped on purpose, with the reason."""
    names = (f"model.layers.{i}.self_attn.rotary_emb.inv_freq" for i in range(config.num_layers))
    return dict.fromkeys(names, "computed from rope_theta")


def duplicates(config: ModelConfig) -> dict[str, str]:
    """Tensors that may be there as a copy of another; the two must be equal, byte for byte."""
    return {HEAD: EMBEDDING} if config.tied_embeddings else {}


def _embedding(c: ModelConfig, layout: Layout) -> tuple[Rule, ...]:
    split: Split
    match layout.embedding_sharding_dim:
        case None:
            split = Replicated()
        case 0:
            split = PaddedRows()
        case 1:
            split = Columns()
    table = Part(EMBEDDING, (c.vocab_size, c.hidden_size), split)
    return (Rule("transformer.vocab_embedding.weight", (table,)),)


def _layer(c: ModelConfig, i: int, local: int) -> tuple[Rule, ...]:
    d, f = c.hidden_size, c.intermediate_size
    q, k = c.num_heads * c.head_size, c.num_kv_heads * c.head_size
    hf, trt = f"model.layers.{i}.", f"transformer.layers.{local}."
    qkv = (
        Part(hf + "self_attn.q_proj.weight", (q, d), Heads(c.num_heads)),
        Part(hf + "self_attn.k_proj.weight", (k, d), Heads(c.num_kv_heads)),
        Part(hf + "self_attn.v_proj.weight", (k, d), Heads(c.num_kv_heads)),
    )
    one = (
        ("attention.dense", "self_attn.o_proj", (d, q), Columns()),
        ("mlp.fc", "mlp.gate_proj", (f, d), Rows()),
        ("mlp.gate", "mlp.up_proj", (f, d), Rows()),
        ("mlp.proj", "mlp.down_proj", (d, f), Columns()),
        ("input_layernorm", "input_layernorm", (d,), Replicated()),
        ("post_layernorm", "post_attention_layernorm", (d,), Replicated()),
    )
    return (
        Rule(trt + "attention.qkv.weight", qkv),
        *(
            Rule(f"{trt}{target}.weight", (Part(f"{hf}{source}.weight", shape, split),))
            for target, source, shape, split in one
        ),
    )


def _output(c: ModelConfig) -> tuple[Rule, ...]:
    v, d = c.vocab_size, c.hidden_size
    head = EMBEDDING if c.tied_embeddings else HEAD
    return (
        Rule("transformer.ln_f.weight", (Part("model.norm.weight", (d,), Replicated()),)),
        Rule("lm_head.weight", (Part(head, (v, d), PaddedRows()),)),
    )
