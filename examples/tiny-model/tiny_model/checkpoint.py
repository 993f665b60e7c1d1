"""The checkpoint folder: shape, JSON files and weights, laid out like the llm-jp-3 models'."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

if TYPE_CHECKING:
    from pathlib import Path

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 512,
    "max_position_embeddings": 512,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 6,
    "num_key_value_heads": 2,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.46.2",
    "use_cache": True,
    "vocab_size": 4096,
}
"""The llm-jp-3 family's keys at this size. The heads allow tensor parallelism of 1, 2 and (with
doubled key-value heads) 4, the layers two pipeline stages."""

GENERATION_CONFIG: dict[str, Any] = {
    "_from_model_config": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "transformers_version": "4.46.2",
}


def new_model(seed: int) -> LlamaForCausalLM:
    """The model in float32 with seeded random weights."""
    torch.manual_seed(seed)
    known = {key: value for key, value in CONFIG.items() if key not in _FILE_ONLY}
    return LlamaForCausalLM(LlamaConfig(**known)).float()


_FILE_ONLY = ("architectures", "model_type", "torch_dtype", "transformers_version")


def write(model: LlamaForCausalLM, folder: Path) -> None:
    """The weights in bfloat16 and the two JSON files, beside the tokenizer's."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.detach().to("cpu", torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for name, content in (("config.json", CONFIG), ("generation_config.json", GENERATION_CONFIG)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load(folder: Path, device: str = "cpu") -> LlamaForCausalLM:
    """The stored bfloat16 weights, computed with in float32, as the server does on a CPU."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.to(device).eval()
