"""The FP8 scales of one layer, read from all its ranks and checked: numbers, and the same ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmjp_runtime.errors import ArtefactInvalid
from llmjp_runtime.executor.torch.checkpoint import (
    INPUT_SCALE,
    K_SCALE,
    KV_SCALE,
    LINEARS,
    V_SCALE,
    WEIGHT_SCALE,
    ShardedCheckpoint,
    name_layer_tensor,
    open_tensors,
)
from llmjp_runtime.executor.torch.fp8 import LinearScales

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class LayerScales:
    """All of one decoder layer."""

    linears: Mapping[str, LinearScales]
    """By TensorRT-LLM's name of the linear layer; empty where they are not in FP8."""
    kv_cache: float | None
    """None where the KV cache is not in FP8."""


def read_scales(checkpoint: ShardedCheckpoint, layer: int) -> LayerScales:
    """Read the scales of a layer, counted over the whole model.

    Raises:
        ArtefactInvalid: one is not a positive number, ranks disagree, or `fc` and `gate` do: they
            share one input, and TensorRT-LLM fuses them under one scale.
    """
    config = checkpoint.config
    if not (config.fp8_linears or config.fp8_kv_cache):
        return LayerScales({}, None)
    pp_rank, index = checkpoint.locate_layer(layer)
    first: dict[str, float] = {}
    for tp_rank in range(config.tp_size):
        path = checkpoint.rank_path(pp_rank, tp_rank)
        found = _read_rank_scales(path, index)
        for name in sorted(first.keys() | found.keys()) if tp_rank else ():
            if first.get(name) != found.get(name):
                raise ArtefactInvalid(
                    f"{path}: {name_layer_tensor(index, name)} is"
                    f" {found.get(name)}, but {first.get(name)} on the first rank: all ranks of"
                    " a stage must have the same scales"
                )
        first = first or found
    linears = {
        name: LinearScales(first[f"{name}.{WEIGHT_SCALE}"], first[f"{name}.{INPUT_SCALE}"])
        for name in (LINEARS if config.fp8_linears else ())
    }
    where = f"{checkpoint.rank_path(pp_rank, 0)}: transformer.layers.{index}"
    if linears and linears["mlp.fc"] != linears["mlp.gate"]:
        raise ArtefactInvalid(f"{where}: the scales of mlp.fc and mlp.gate differ")
    return LayerScales(linears, _select_kv_scale(first, where) if config.fp8_kv_cache else None)


def _read_rank_scales(path: Path, index: int) -> dict[str, float]:
    """Read a layer's scales from one rank, by name within the layer."""
    prefix = name_layer_tensor(index, "")
    with open_tensors(path) as tensors:
        return {
            name.removeprefix(prefix): _read_scale(path, name, tensors.get_tensor(name))
            for name in tensors.keys()  # noqa: SIM118  no dict
            if name.startswith(prefix) and name.endswith("_scaling_factor")
        }


def _read_scale(path: Path, name: str, stored: Any) -> float:
    value: float = stored.item()
    if not 0 < value < math.inf:
        raise ArtefactInvalid(f"{path}: {name} is {value}, expected a number > 0")
    return value


def _select_kv_scale(scales: Mapping[str, float], where: str) -> float:
    """Return the cache's scale; TensorRT-LLM takes the larger of those of keys and values."""
    single = [scales[name] for name in (K_SCALE, V_SCALE) if name in scales]
    if single and max(single) != scales[KV_SCALE]:
        raise ArtefactInvalid(
            f"{where}.{KV_SCALE} is {scales[KV_SCALE]}, but those of keys and values are {single}"
        )
    return scales[KV_SCALE]
