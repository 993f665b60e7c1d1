"""Checkpoints to measure with: the shapes of a model, and weights that mean nothing."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import numpy as np

from llmjp_builder.convert.header import NewTensor, render_header

if TYPE_CHECKING:
    from pathlib import Path

    from llmjp_builder.convert.model_config import ModelConfig

DTYPES = {"BF16": "bfloat16", "F32": "float32"}


def tensors(
    d: int, f: int, layers: int, v: int, *, stored: str, kv: int | None = None
) -> list[NewTensor]:
    """Of a Llama with untied embeddings; `kv` is the width of k and v, where it is not `d`."""
    named = {"model.embed_tokens": (v, d), "lm_head": (v, d), "model.norm": (d,)}
    for i in range(layers):
        layer = f"model.layers.{i}."
        named |= {f"{layer}self_attn.{p}_proj": (d, d) for p in "qo"}
        named |= {f"{layer}self_attn.{p}_proj": (kv or d, d) for p in "kv"}
        named |= {f"{layer}mlp.{p}_proj": (f, d) for p in ("gate", "up")}
        named |= {f"{layer}mlp.down_proj": (d, f)}
        named |= {f"{layer}{p}_layernorm": (d,) for p in ("input", "post_attention")}
    return [NewTensor(f"{name}.weight", stored, shape) for name, shape in named.items()]


def generate(folder: Path, config: ModelConfig, stored: str, *, holes: bool = False) -> int:
    """Writes the checkpoint, on the disk on return; returns the size of its weights in bytes.

    Args:
        folder: made here.
        config: the shape.
        stored: element type, as safetensors names it.
        holes: only the header takes room on the disk; every weight reads as zero.
    """
    folder.mkdir(parents=True)
    listed = tensors(
        config.hidden_size,
        config.intermediate_size,
        config.num_layers,
        config.vocab_size,
        stored=stored,
        kv=config.num_kv_heads * config.head_size,
    )
    header, _ = render_header(listed)
    left = sum(tensor.size for tensor in listed)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(header)
        if holes:
            file.truncate(len(header) + left)
        else:
            block = _block()
            while left:
                left -= file.write(block[: min(left, len(block))])
    document = {
        "architectures": [config.architecture],
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.norm_epsilon,
        "torch_dtype": DTYPES[stored],
    }
    (folder / "config.json").write_text(json.dumps(document))
    os.sync()
    return (folder / "model.safetensors").stat().st_size


def _block() -> bytes:
    """Random, but the top bits of every number are cleared: none is infinite or too large."""
    return (np.frombuffer(os.urandom(64 << 20), np.uint32) & 0x3FFF3FFF).tobytes()
