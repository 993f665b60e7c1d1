"""FP8 by other means: a transformers model whose linear layers and attention are fake-quantised.

Nothing is taken from the checkpoint under test: weights are Hugging Face's, scales follow from them
and from calibration's amax, as modelopt has it.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from transformers import AttentionInterface, LlamaForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from llmjp_builder.contracts.spec import LayoutOptions
from llmjp_builder.convert.amax import Amax
from llmjp_builder.convert.conversion import convert_checkpoint, prepare_ranks
from llmjp_builder.progress import Reporter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

SHARED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"), ("o_proj",), ("down_proj",))
"""Layers that take the same input have the same scales."""


def through_e4m3(x: Tensor, scale: Tensor) -> Tensor:
    return (x / scale).clamp(-448, 448).to(torch.float8_e4m3fn).to(x.dtype) * scale


def fake_quantise(
    model: Any, amax: Mapping[str, float], kv_scales: Mapping[int, float] | None
) -> Any:
    """Changes `model` (float32): inputs and weights of the decoder's linear layers, keys, values.

    Args:
        model: from transformers, its weights as they were calibrated.
        amax: by Hugging Face's module names, of inputs.
        kv_scales: by layer; None leaves keys and values alone.
    """
    for index, layer in enumerate(model.model.layers):
        modules = {name.rpartition(".")[2]: m for name, m in layer.named_modules()}
        paths = {m: f"model.layers.{index}.{n}" for n, m in layer.named_modules()}
        for group in SHARED:
            linears = [modules[name] for name in group]
            weight = max(m.weight.abs().max() for m in linears) / 448
            inputs = torch.tensor(max(amax[paths[m]] for m in linears)) / 448
            for linear in linears:
                linear.weight.data = through_e4m3(linear.weight.data, weight)
                linear.register_forward_pre_hook(
                    lambda _, args, scale=inputs: (through_e4m3(args[0], scale),)
                )
        if kv_scales is not None:
            modules["self_attn"].fake_kv_scale = torch.tensor(kv_scales[index])
    if kv_scales is not None:
        AttentionInterface.register("fake_fp8_kv", _attention)
        model.set_attn_implementation("fake_fp8_kv")
    return model


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kw: Any
) -> Any:
    scale = module.fake_kv_scale
    key, value = through_e4m3(key, scale), through_e4m3(value, scale)
    return sdpa_attention_forward(module, query, key, value, *args, **kw)


def golden_reference(folder: Path, *, kv: bool) -> Any:
    """What a golden's FP8 checkpoint means; its KV scales are all 1."""
    model = LlamaForCausalLM.from_pretrained(folder / "hf", dtype=torch.bfloat16).eval().float()
    calibration = json.loads((folder / "calib.json").read_text(encoding="utf-8"))
    scales = dict.fromkeys(range(model.config.num_hidden_layers), 1.0) if kv else None
    return fake_quantise(model, calibration["activation_amax"], scales)


@torch.no_grad()
def input_amax(model: Any, texts: Sequence[Sequence[int]]) -> dict[str, float]:
    """Of the decoder's linear layers over `texts`; unquantised calibration in its plainest form."""
    seen: dict[str, float] = {}
    with _watched(model, seen):
        for ids in texts:
            model(torch.tensor([list(ids)]))
    return seen


@contextmanager
def _watched(model: Any, seen: dict[str, float]) -> Iterator[None]:
    def see(name: str, x: Tensor) -> None:
        seen[name] = max(seen.get(name, 0.0), float(x.abs().max()))

    handles = [
        module.register_forward_pre_hook(lambda _, args, name=name: see(name, args[0]))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name.startswith("model.layers.")
    ]
    yield
    for handle in handles:
        handle.remove()


def fp8_checkpoint(
    source: Path,
    out: Path,
    activations: Mapping[str, float],
    *,
    kv_amax: float = 1.0,
    **options: Any,
) -> Path:
    """Our builder's FP8 checkpoint of a Hugging Face folder, every KV amax being `kv_amax`."""
    layers = {name.split(".self_attn")[0] for name in activations if ".self_attn" in name}
    kv = {f"{layer}.self_attn": {"k": kv_amax, "v": kv_amax} for layer in layers}
    chosen: dict[str, Any] = {
        "quantization": "fp8",
        "kv_cache": "fp8",
        "pad_intermediate": 1,
    } | options
    convert_checkpoint(
        prepare_ranks(source, LayoutOptions(**chosen)), out, Reporter(None), Amax(activations, kv)
    )
    return out
