"""The input of one forward pass: one token of each decoding request, and chunks of prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmjp_runtime.executor.torch.kv_cache import KVCache


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillChunk:
    """Ids of one prompt that go through the model together."""

    slot: int
    start: int
    """Position of the first id; everything before it is in the cache."""
    ids: Sequence[int]
    needs_logits: bool
    """The prompt ends here, so a first id follows."""

    @property
    def stop(self) -> int:
        """Position after the last id."""
        return self.start + len(self.ids)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ChunkAttention:
    """A chunk's rows among the batch's tokens, and what they see."""

    rows: slice
    cells: slice
    """The slot's cells up to the chunk's end."""
    mask: torch.Tensor | None
    """[chunk, stop], added to scores; None when the chunk starts the prompt (plainly causal)."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Batch:
    """Tensors of one pass over T tokens: first B decoded ones (row = slot), then the chunks."""

    input_ids: torch.Tensor
    """[T]"""
    positions: torch.Tensor
    """[T]"""
    cells: torch.Tensor
    """[T]: where each token's key and value go."""
    slot_length: int
    """Cells of a slot."""
    num_decodes: int
    """B"""
    kv_length: int
    """Cells that the longest decoding request sees."""
    mask: torch.Tensor | None
    """[B, 1, 1, kv_length], added to scores; None when all are equally long."""
    chunks: tuple[ChunkAttention, ...]
    outputs: torch.Tensor | None
    """Tokens whose logits are needed; None for all."""


def build_batch(
    decodes: Sequence[tuple[int, int]],
    chunks: Sequence[PrefillChunk],
    cache: KVCache,
    dtype: torch.dtype,
) -> Batch:
    """Build the tensors to decode `decodes` (id, position; index = slot) and to prefill `chunks`.

    Logits come for every decoded id, then for each chunk that needs them, in order.
    """
    ids = [i for i, _ in decodes]
    positions = [position for _, position in decodes]
    slots = list(range(len(decodes)))
    attentions, outputs = [], list(slots)
    for chunk in chunks:
        rows = slice(len(ids), len(ids) + len(chunk.ids))
        ids += chunk.ids
        positions += range(chunk.start, chunk.stop)
        slots += [chunk.slot] * len(chunk.ids)
        outputs += [rows.stop - 1] if chunk.needs_logits else []
        attentions.append(_build_chunk_attention(chunk, rows, cache, dtype))
    device = cache.ids.device
    packed = torch.tensor([ids, positions, slots], dtype=torch.int64).to(device)
    kv_length = max((position for _, position in decodes), default=-1) + 1
    return Batch(
        input_ids=packed[0],
        positions=packed[1],
        cells=packed[2] * cache.max_length + packed[1],
        slot_length=cache.max_length,
        num_decodes=len(decodes),
        kv_length=kv_length,
        mask=_decode_mask(packed[1, : len(decodes)], kv_length, dtype)
        if any(position + 1 != kv_length for _, position in decodes)
        else None,
        chunks=tuple(attentions),
        outputs=torch.tensor(outputs, dtype=torch.int64, device=device)
        if len(outputs) < len(ids)
        else None,
    )


def _decode_mask(positions: torch.Tensor, kv_length: int, dtype: torch.dtype) -> torch.Tensor:
    unseen = torch.arange(kv_length, device=positions.device) > positions[:, None]
    mask = torch.zeros(unseen.shape, dtype=dtype, device=positions.device)
    return mask.masked_fill_(unseen, -torch.inf)[:, None, None]


def _build_chunk_attention(
    chunk: PrefillChunk, rows: slice, cache: KVCache, dtype: torch.dtype
) -> ChunkAttention:
    first = chunk.slot * cache.max_length
    mask = None
    if chunk.start > 0:
        # Row i sees everything up to itself: the diagonal is shifted by what is cached already.
        mask = torch.full((len(chunk.ids), chunk.stop), -torch.inf, dtype=dtype)
        mask = mask.triu_(chunk.start + 1).to(cache.ids.device)
    return ChunkAttention(rows=rows, cells=slice(first, first + chunk.stop), mask=mask)
