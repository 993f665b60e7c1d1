"""Keys, values and ids of the requests being stepped, in slots allocated once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from llmjp_runtime.executor.torch.fp8 import E4M3, dequantize, quantize
from llmjp_runtime.executor.torch.memory import require_memory

if TYPE_CHECKING:
    from llmjp_runtime.executor.torch.config import CheckpointConfig


@dataclass(frozen=True, slots=True, eq=False)
class LayerCache:
    """Keys and values of one layer.

    In FP8 they are scaled and cast on the way in and widened on the way out, also for tokens of the
    same step: what a token sees does not depend on how its prompt was cut into chunks.
    """

    keys: torch.Tensor
    """[C, K, D]; so is `values`."""
    values: torch.Tensor
    scale: float | None

    def write(self, cells: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
        """Put k and v [T, K, D] into these cells [T]."""
        for target, new in ((self.keys, k), (self.values, v)):
            if self.scale is None:
                target.index_copy_(0, cells, new)
            else:  # by their bits: torch has no index_copy of e4m3 on the CPU
                bits = quantize(new, self.scale).view(torch.uint8)
                target.view(torch.uint8).index_copy_(0, cells, bits)

    def read(self, cells: slice, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values of these cells; views if nothing has to be widened."""
        return self._widen(self.keys[cells], dtype), self._widen(self.values[cells], dtype)

    def read_slots(
        self, num_slots: int, slot_length: int, length: int, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first cells of the first slots, [num_slots, length, K, D] each, likewise."""
        k, v = (
            cached.view(-1, slot_length, *cached.shape[1:])[:num_slots, :length]
            for cached in (self.keys, self.values)
        )
        return self._widen(k, dtype), self._widen(v, dtype)

    def _widen(self, cached: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return cached if self.scale is None else dequantize(cached, self.scale, dtype)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class KVCache:
    """Slots of `max_length` cells; cell = slot * max_length + position.

    Shapes: L layers, C cells (slots * max_length), K key heads of all ranks, D head size.
    """

    num_slots: int
    max_length: int
    keys: torch.Tensor
    """[L, C, K, D], after rotary embedding; e4m3 for a checkpoint whose cache is in FP8."""
    values: torch.Tensor
    """[L, C, K, D]"""
    ids: torch.Tensor
    """[C] int64: the id whose key and value the cell holds."""

    @classmethod
    def allocate(
        cls,
        config: CheckpointConfig,
        *,
        num_slots: int,
        max_length: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> KVCache:
        """Allocate zeroed slots for every layer of `config`.

        Raises:
            NotEnoughMemory: they do not fit.
        """
        num_cells, heads = num_slots * max_length, config.tp_size * config.kv_heads_per_rank
        shape = (config.num_hidden_layers, num_cells, heads, config.head_size)
        stored = E4M3 if config.fp8_kv_cache else dtype
        require_memory(
            f"KV cache ({num_slots} requests of {max_length} tokens)",
            2 * torch.Size(shape).numel() * stored.itemsize,
            device,
            "lower max_batch_size or max_context",
        )
        # Zeros, not empty: a masked cell still takes part in 0 * value, and 0 * NaN is NaN.
        return cls(
            num_slots=num_slots,
            max_length=max_length,
            keys=torch.zeros(shape, dtype=stored, device=device),
            values=torch.zeros(shape, dtype=stored, device=device),
            ids=torch.zeros(num_cells, dtype=torch.int64, device=device),
        )

    def view_layer(self, index: int, scale: float | None) -> LayerCache:
        """Return a view of one layer; `scale` is None unless the cache is in FP8."""
        return LayerCache(self.keys[index], self.values[index], scale)

    def move_slot(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` cells of one slot to another."""
        here = slice(source * self.max_length, source * self.max_length + length)
        there = slice(target * self.max_length, target * self.max_length + length)
        self.keys[:, there] = self.keys[:, here]
        self.values[:, there] = self.values[:, here]
        self.ids[there] = self.ids[here]

    def view_history(self, num_rows: int, length: int) -> torch.Tensor:
        """Return the ids of the first slots, [num_rows, length] (stale beyond each one's end)."""
        return self.ids.view(self.num_slots, self.max_length)[:num_rows, :length]
