"""What one pass through the model works on: an id for each running request, pieces of prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmjp_runtime.executor.torch.kv_cache import KVCache


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptPiece:
    """Ids of one prompt that go through the model together."""

    slot: int
    start: int
    """Position of the first id; everything before it is in the cache."""
    ids: Sequence[int]
    wants_logits: bool
    """Whether the prompt ends here, so that a first id follows."""

    @property
    def stop(self) -> int:
        """Position after the last id."""
        return self.start + len(self.ids)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PieceAttention:
    """A piece's rows among a step's tokens, and what they see."""

    rows: slice
    cells: slice
    """The slot's cells up to the piece's end."""
    mask: torch.Tensor | None
    """[piece, stop], added to scores; None when the piece starts the prompt (plainly causal)."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Step:
    """Tensors of one pass over T tokens: first B decoded ones (row = slot), then the pieces."""

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
    length: int
    """Cells that the longest decoding request sees."""
    mask: torch.Tensor | None
    """[B, 1, 1, length], added to scores; None when all are equally long."""
    pieces: tuple[PieceAttention, ...]
    outputs: torch.Tensor | None
    """Tokens whose logits are wanted; None for all."""


def build_step(
    decodes: Sequence[tuple[int, int]],
    pieces: Sequence[PromptPiece],
    cache: KVCache,
    dtype: torch.dtype,
) -> Step:
    """The tensors for decoding `decodes` (id, position; index = slot) and reading `pieces`.

    Logits come for every decoded id, then for each piece that wants them, in order.
    """
    ids = [i for i, _ in decodes]
    positions = [position for _, position in decodes]
    slots = list(range(len(decodes)))
    attentions, outputs = [], list(slots)
    for piece in pieces:
        rows = slice(len(ids), len(ids) + len(piece.ids))
        ids += piece.ids
        positions += range(piece.start, piece.stop)
        slots += [piece.slot] * len(piece.ids)
        outputs += [rows.stop - 1] if piece.wants_logits else []
        attentions.append(_piece_attention(piece, rows, cache, dtype))
    device = cache.ids.device
    packed = torch.tensor([ids, positions, slots], dtype=torch.int64).to(device)
    length = max((position for _, position in decodes), default=-1) + 1
    return Step(
        input_ids=packed[0],
        positions=packed[1],
        cells=packed[2] * cache.max_length + packed[1],
        slot_length=cache.max_length,
        num_decodes=len(decodes),
        length=length,
        mask=_decode_mask(packed[1, : len(decodes)], length, dtype)
        if any(position + 1 != length for _, position in decodes)
        else None,
        pieces=tuple(attentions),
        outputs=torch.tensor(outputs, dtype=torch.int64, device=device)
        if len(outputs) < len(ids)
        else None,
    )


def _decode_mask(positions: torch.Tensor, length: int, dtype: torch.dtype) -> torch.Tensor:
    unseen = torch.arange(length, device=positions.device) > positions[:, None]
    mask = torch.zeros(unseen.shape, dtype=dtype, device=positions.device)
    return mask.masked_fill_(unseen, -torch.inf)[:, None, None]


def _piece_attention(
    piece: PromptPiece, rows: slice, cache: KVCache, dtype: torch.dtype
) -> PieceAttention:
    first = piece.slot * cache.max_length
    mask = None
    if piece.start > 0:
        # Row i sees everything up to itself: the diagonal is shifted by what is cached already.
        mask = torch.full((len(piece.ids), piece.stop), -torch.inf, dtype=dtype)
        mask = mask.triu_(piece.start + 1).to(cache.ids.device)
    return PieceAttention(rows=rows, cells=slice(first, first + piece.stop), mask=mask)
