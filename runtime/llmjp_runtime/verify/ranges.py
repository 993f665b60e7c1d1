"""Use of FP8's range by inputs: it tells a wrong activation scale from a right one.

e4m3 is a floating point type, so an activation scale that is a hundred times too large changes
hardly any result; but calibration sets it such that the largest input is 448, and that can be seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from llmjp_runtime.executor.torch.fp8 import LARGEST, Fp8Linear
from llmjp_runtime.executor.torch.kv_cache import LayerCache

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmjp_runtime.executor.torch.model import Layer, Linear, RowParallel
    from llmjp_runtime.verify.limits import Limits


@dataclass(frozen=True, slots=True)
class FilledRange:
    """Share of its range that the inputs of one scale fill."""

    name: str
    """`layer 3 attention.qkv`, `layer 3 kv_cache`; `mlp.fc` stands for `mlp.gate`, too."""
    scale: float
    filled: float
    """The largest input over the largest that the scale can hold: 1 where calibration saw the same
    texts; beyond 1, inputs were clamped. NaN where an input was."""

    def is_good(self, limits: Limits) -> bool:
        """Return whether the scale suits the inputs that were seen.

        KV scales are never below 1 (modelopt's rule), so that one of 1 says nothing.
        """
        floor = 0.0 if self.name.endswith("kv_cache") and self.scale <= 1 else limits.range_low
        return floor <= self.filled <= limits.range_high


@dataclass(frozen=True, slots=True, eq=False)
class _WatchedLinear(Fp8Linear):
    """Remembers the largest input of each call."""

    seen: list[torch.Tensor] = field(default_factory=list)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.abs().max())
        return Fp8Linear.__call__(self, x)


@dataclass(frozen=True, slots=True, eq=False)
class WatchedCache(LayerCache):
    """Remembers the largest key and value of each call."""

    seen: list[torch.Tensor] = field(default_factory=list)

    def write(self, cells: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
        """Write as the executor does."""
        self.seen.extend((k.abs().max(), v.abs().max()))
        LayerCache.write(self, cells, k, v)


def watch_layer(layer: Layer) -> Layer:
    """Return the same layer, watched: `iterate_filled_ranges` tells what it was given."""
    return replace(
        layer,
        qkv=_watch(layer.qkv),
        dense=_watch_all(layer.dense),
        gate_up=_watch(layer.gate_up),
        down=_watch_all(layer.down),
    )


def iterate_filled_ranges(name: str, layer: Layer, cache: WatchedCache) -> Iterator[FilledRange]:
    """Yield the ranges of a watched layer that has run; nothing where there is no FP8."""
    if cache.scale is not None:
        yield _measure_filled(f"{name} kv_cache", cache.scale, cache.seen)
    linears = {
        "attention.qkv": [layer.qkv],
        "attention.dense": list(layer.dense.ranks),
        "mlp.fc": [layer.gate_up],
        "mlp.proj": list(layer.down.ranks),
    }
    for part, ranks in linears.items():
        found = [rank for rank in ranks if isinstance(rank, _WatchedLinear)]
        if found:
            seen = [number for rank in found for number in rank.seen]
            yield _measure_filled(f"{name} {part}", found[0].scales.input, seen)


def _measure_filled(name: str, scale: float, seen: list[torch.Tensor]) -> FilledRange:
    return FilledRange(name, scale, float(torch.stack(seen).max()) / (LARGEST * scale))


def _watch(linear: Linear | Fp8Linear) -> Linear | Fp8Linear:
    if isinstance(linear, Fp8Linear):
        return _WatchedLinear(linear.weight, linear.scales)
    return linear


def _watch_all(linear: RowParallel) -> RowParallel:
    return replace(linear, ranks=tuple(map(_watch, linear.ranks)))
