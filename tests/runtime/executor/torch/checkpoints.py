"""Small random Llamas, and TensorRT-LLM checkpoints made of them by a plain conversion."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

_STORED = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


def random_llama(*, dtype: torch.dtype = torch.float32, **shape: Any) -> Any:
    """A Llama with weights large enough for attention to look at particular positions."""
    config = LlamaConfig(
        **{
            "vocab_size": 211,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "max_position_embeddings": 128,
            "initializer_range": 0.15,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
        | shape
    )
    with torch.random.fork_rng():
        torch.manual_seed(20)
        model = LlamaForCausalLM(config).eval()
        for name, parameter in model.named_parameters():
            if "norm" in name:
                torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model.to(dtype).float() if dtype != torch.float32 else model


def write_checkpoint(
    model: Any,
    folder: Path,
    *,
    tp: int = 1,
    pp: int = 1,
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> Path:
    """`model` (from `random_llama`) in the minimal portable form; `changes` go to config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    config = portable_config(model.config, tp=tp, pp=pp, dtype=_STORED[dtype]) | changes
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    weights = {name: tensor.to(dtype) for name, tensor in model.state_dict().items()}
    stages = torch.arange(model.config.num_hidden_layers).tensor_split(pp)
    for pp_rank, stage in enumerate(stages):
        for tp_rank in range(tp):
            tensors: dict[str, Tensor] = {}
            for index, layer in enumerate(stage.tolist()):
                tensors |= _layer(model.config, weights, layer, index, (tp_rank, tp))
            if pp_rank == 0:
                tensors["transformer.vocab_embedding.weight"] = weights["model.embed_tokens.weight"]
            if pp_rank == pp - 1:
                tensors["transformer.ln_f.weight"] = weights["model.norm.weight"]
                tensors["lm_head.weight"] = _part(
                    _padded(weights["lm_head.weight"], tp), tp_rank, tp
                )
            save_file(
                {name: tensor.clone().contiguous() for name, tensor in tensors.items()},
                folder / f"rank{pp_rank * tp + tp_rank}.safetensors",
            )
    return folder


def portable_config(config: Any, *, tp: int, pp: int, dtype: str) -> dict[str, Any]:
    return {
        "architecture": "LlamaForCausalLM",
        "dtype": dtype,
        "logits_dtype": "float32",
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_position_embeddings,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_size": config.head_dim,
        "intermediate_size": config.intermediate_size,
        "hidden_act": "silu",
        "norm_epsilon": config.rms_norm_eps,
        "position_embedding_type": "rope_gpt_neox",
        "rotary_base": 10000.0,
        "rotary_scaling": None,
        "mapping": {"world_size": tp * pp, "tp_size": tp, "pp_size": pp},
        "quantization": {"quant_algo": None, "kv_cache_quant_algo": None},
    }


def _layer(
    config: Any, weights: dict[str, Tensor], layer: int, index: int, rank: tuple[int, int]
) -> dict[str, Tensor]:
    source, target = f"model.layers.{layer}.", f"transformer.layers.{index}."
    tp_rank, tp = rank
    copies = max(1, tp // config.num_key_value_heads)

    def heads(name: str) -> Tensor:
        weight = weights[f"{source}self_attn.{name}_proj.weight"]
        if name == "q":
            return _part(weight, tp_rank, tp)
        split = weight.view(-1, config.head_dim, config.hidden_size).repeat_interleave(
            copies, dim=0
        )
        return _part(split.flatten(0, 1), tp_rank, tp)

    return {
        f"{target}{name}.weight": tensor
        for name, tensor in {
            "input_layernorm": weights[f"{source}input_layernorm.weight"],
            "attention.qkv": torch.cat([heads(name) for name in "qkv"]),
            "attention.dense": _part(
                weights[f"{source}self_attn.o_proj.weight"], tp_rank, tp, dim=1
            ),
            "post_layernorm": weights[f"{source}post_attention_layernorm.weight"],
            "mlp.fc": _part(weights[f"{source}mlp.gate_proj.weight"], tp_rank, tp),
            "mlp.gate": _part(weights[f"{source}mlp.up_proj.weight"], tp_rank, tp),
            "mlp.proj": _part(weights[f"{source}mlp.down_proj.weight"], tp_rank, tp, dim=1),
        }.items()
    }


def _part(weight: Tensor, rank: int, world: int, dim: int = 0) -> Tensor:
    return weight.chunk(world, dim=dim)[rank]


def _padded(weight: Tensor, multiple: int) -> Tensor:
    return torch.nn.functional.pad(weight, (0, 0, 0, -len(weight) % multiple))
