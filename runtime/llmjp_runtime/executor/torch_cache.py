"""Keys, values and ids of the requests being stepped, in slots allocated once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from llmjp_runtime.executor.torch_memory import require_memory

if TYPE_CHECKING:
    from llmjp_runtime.executor.torch_config import CheckpointConfig


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class KVCache:
    """Slots of `max_length` cells; cell = slot * max_length + position.

    Shapes: L layers, C cells (slots * max_length), K key heads of all ranks, D head size.
    """

    num_slots: int
    max_length: int
    keys: torch.Tensor
    """[L, C, K, D], after rotary embedding."""
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
        """Zeroed slots for every layer of `config`.

        Raises:
            NotEnoughMemory: they do not fit.
        """
        num_cells, heads = num_slots * max_length, config.tp_size * config.kv_heads_per_rank
        shape = (config.num_hidden_layers, num_cells, heads, config.head_size)
        require_memory(
            f"KV cache ({num_slots} requests of {max_length} tokens)",
            2 * torch.Size(shape).numel() * dtype.itemsize,
            device,
            "lower max_batch_size or max_context",
        )
        # Zeros, not empty: a masked cell still takes part in 0 * value, and 0 * NaN is NaN.
        return cls(
            num_slots=num_slots,
            max_length=max_length,
            keys=torch.zeros(shape, dtype=dtype, device=device),
            values=torch.zeros(shape, dtype=dtype, device=device),
            ids=torch.zeros(num_cells, dtype=torch.int64, device=device),
        )

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` cells of one slot to another."""
        here = slice(source * self.max_length, source * self.max_length + length)
        there = slice(target * self.max_length, target * self.max_length + length)
        self.keys[:, there] = self.keys[:, here]
        self.values[:, there] = self.values[:, here]
        self.ids[there] = self.ids[here]

    def history(self, num_rows: int, length: int) -> torch.Tensor:
        """[num_rows, length]: the ids of the first slots (a view; stale beyond each one's end)."""
        return self.ids.view(self.num_slots, self.max_length)[:num_rows, :length]
