"""A second converter, small and slow: whole tensors in memory, nothing shared with the first.

`tests/engine_builder/test_convert_golden.py` holds it against checkpoints that TensorRT-LLM and
modelopt wrote; the goldens of this folder are its output.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

Tensors = dict[str, torch.Tensor]

FP8_MAX = 448.0
LINEAR = {
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.dense": ("self_attn.o_proj",),
    "mlp.fc": ("mlp.gate_proj",),
    "mlp.gate": ("mlp.up_proj",),
    "mlp.proj": ("mlp.down_proj",),
}
SHARED_SCALES = {
    "mlp.fc": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.gate": ("mlp.gate_proj", "mlp.up_proj"),
}
"""Linear layers whose scales cover more than their own tensors."""


@dataclass(frozen=True, kw_only=True)
class ReferenceOptions:
    """How to convert; named as in `LayoutOptions`."""

    dtype: str
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    embedding_sharding_dim: int | None = None
    pad_intermediate: int = 1
    amax: Mapping[str, Any] | None = None
    """FP8 where given: the document of `--activation-amax`."""
    fp8_kv_cache: bool = False


class Reference:
    """One conversion of one Hugging Face checkpoint."""

    def __init__(self, source: Path, options: ReferenceOptions) -> None:
        self.options = options
        self.config: dict[str, Any] = json.loads((source / "config.json").read_text())
        self.weights: Tensors = {}
        for path in source.glob("*.safetensors"):
            self.weights |= load_file(path)
        dtype = getattr(torch, options.dtype)
        self.weights = {name: weight.to(dtype) for name, weight in self.weights.items()}
        if self.config["tie_word_embeddings"]:
            self.weights["lm_head.weight"] = self.weights["model.embed_tokens.weight"]

    def files(self) -> dict[str, bytes]:
        """Return every file of the checkpoint."""
        ranks = {f"rank{i}.safetensors": save(tensors) for i, tensors in enumerate(self.ranks())}
        text = json.dumps(self.document(), indent=2, sort_keys=True) + "\n"
        return {"config.json": text.encode(), **ranks}

    def ranks(self) -> Iterator[Tensors]:
        """Yield the tensors of each rank, pipeline stage by pipeline stage."""
        pp = self.options.pipeline_parallel
        layers = torch.arange(self.config["num_hidden_layers"])
        for stage, part in enumerate(torch.tensor_split(layers, pp)):
            for rank in range(self.options.tensor_parallel):
                found: Tensors = {}
                if stage == 0:
                    found["transformer.vocab_embedding.weight"] = self.embedding(rank)
                for local, layer in enumerate(part.tolist()):
                    tensors = self.layer(f"model.layers.{layer}.", rank)
                    found |= {f"transformer.layers.{local}.{k}": v for k, v in tensors.items()}
                if stage == pp - 1:
                    found["transformer.ln_f.weight"] = self.weights["model.norm.weight"]
                    found["lm_head.weight"] = self.vocabulary_rows("lm_head.weight", rank)
                yield {name: tensor.clone().contiguous() for name, tensor in found.items()}

    def embedding(self, rank: int) -> torch.Tensor:
        name, tp = "model.embed_tokens.weight", self.options.tensor_parallel
        sharding = 0 if self.options.amax else self.options.embedding_sharding_dim
        if sharding is None:
            return self.weights[name]
        if sharding == 1:
            return self.weights[name].chunk(tp, 1)[rank]
        return self.vocabulary_rows(name, rank)

    def vocabulary_rows(self, name: str, rank: int) -> torch.Tensor:
        table, tp = self.weights[name], self.options.tensor_parallel
        return _fill(table, 0, -len(table) % tp).chunk(tp, 0)[rank]

    def layer(self, prefix: str, rank: int) -> Tensors:
        weights = {
            "input_layernorm.weight": self.weights[f"{prefix}input_layernorm.weight"],
            "post_layernorm.weight": self.weights[f"{prefix}post_attention_layernorm.weight"],
        }
        for target, sources in LINEAR.items():
            names = [f"{prefix}{source}.weight" for source in sources]
            whole = [self.weights[name] for name in names]
            if self.options.amax:
                modules = [prefix + name for name in SHARED_SCALES.get(target, sources)]
                scale = self.weight_scale(modules)
                whole = [_to_fp8_bits(weight, scale) for weight in whole]
                weights[f"{target}.weights_scaling_factor"] = scale
                weights[f"{target}.activation_scaling_factor"] = self.input_scale(modules)
            joined = torch.cat([self.shard(n, w, rank) for n, w in zip(names, whole, strict=True)])
            as_fp8 = joined.dtype == torch.uint8
            weights[f"{target}.weight"] = joined.view(torch.float8_e4m3fn) if as_fp8 else joined
        return weights | (self.kv_scales(prefix) if self.options.fp8_kv_cache else {})

    def shard(self, name: str, weight: torch.Tensor, rank: int) -> torch.Tensor:
        tp = self.options.tensor_parallel
        if "self_attn.o_proj" in name:
            return weight.chunk(tp, 1)[rank]
        if "mlp" in name:
            axis = 1 if "down_proj" in name else 0
            part = weight.chunk(tp, axis)[rank]
            return _fill(part, axis, -part.shape[axis] % self.options.pad_intermediate)
        keys = "num_attention_heads" if "q_proj" in name else "num_key_value_heads"
        heads = weight.reshape(self.config[keys], -1, weight.shape[1])
        heads = heads.repeat_interleave(max(1, tp // len(heads)), 0)
        return heads.chunk(tp, 0)[rank].reshape(-1, weight.shape[1])

    def weight_scale(self, modules: list[str]) -> torch.Tensor:
        largest = max(self.weights[f"{name}.weight"].abs().max().item() for name in modules)
        return torch.tensor([largest]) / FP8_MAX

    def input_scale(self, modules: list[str]) -> torch.Tensor:
        assert self.options.amax
        found = self.options.amax["activation_amax"]
        return torch.tensor([max(found[name] for name in modules)]) / FP8_MAX

    def kv_scales(self, prefix: str) -> Tensors:
        assert self.options.amax
        kv = self.options.amax.get("kv_amax", {}).get(f"{prefix}self_attn", {"k": 1.0, "v": 1.0})
        scales = {name: max(torch.tensor([kv[name]]) / FP8_MAX, torch.ones(1)) for name in "kv"}
        return {
            "attention.k_cache_scaling_factor": scales["k"],
            "attention.v_cache_scaling_factor": scales["v"],
            "attention.kv_cache_scaling_factor": max(scales.values()),
        }

    def document(self) -> dict[str, Any]:
        """Return config.json, in the form that every version of TensorRT-LLM loads."""
        c, o, fp8 = self.config, self.options, self.options.amax is not None
        width = -(-c["intermediate_size"] // o.tensor_parallel // o.pad_intermediate)
        sharding = 0 if fp8 else o.embedding_sharding_dim
        sharded = {"use_parallel_embedding": True, "embedding_sharding_dim": sharding}
        return {
            "architecture": "LlamaForCausalLM",
            "dtype": o.dtype,
            "logits_dtype": "float16" if fp8 else "float32",
            "vocab_size": c["vocab_size"],
            "max_position_embeddings": c["max_position_embeddings"],
            "hidden_size": c["hidden_size"],
            "num_hidden_layers": c["num_hidden_layers"],
            "num_attention_heads": c["num_attention_heads"],
            "num_key_value_heads": c["num_key_value_heads"],
            "head_size": c["head_dim"],
            "intermediate_size": width * o.pad_intermediate * o.tensor_parallel,
            "hidden_act": "silu",
            "norm_epsilon": c["rms_norm_eps"],
            "position_embedding_type": "rope_gpt_neox",
            "rotary_base": float(c["rope_theta"]),
            "rotary_scaling": c["rope_scaling"],
            "mapping": {
                "world_size": o.tensor_parallel * o.pipeline_parallel,
                "tp_size": o.tensor_parallel,
                "pp_size": o.pipeline_parallel,
            },
            "quantization": {
                "quant_algo": "FP8" if fp8 else None,
                "kv_cache_quant_algo": "FP8" if o.fp8_kv_cache else None,
                **({"exclude_modules": ["lm_head"]} if fp8 else {}),
            },
            **({} if sharding is None else sharded),
        }


def _fill(tensor: torch.Tensor, axis: int, zeros: int) -> torch.Tensor:
    shape = list(tensor.shape)
    shape[axis] = zeros
    return torch.cat([tensor, tensor.new_zeros(shape)], axis)


def _to_fp8_bits(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return (weight.float() / scale).to(torch.float8_e4m3fn).view(torch.uint8)
