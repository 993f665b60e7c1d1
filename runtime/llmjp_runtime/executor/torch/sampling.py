"""The mathematics of choosing ids: pure functions over a batch of logits.

Shapes: B rows, V vocabulary, N ids of history (padded), C candidates. Semantics are those of
transformers' generation/logits_process.py (repetition penalty, temperature, top-k, top-p).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

_NUM_CANDIDATES = 128
"""The largest logits are tried first; a full sort follows only if the draw may lie beyond them."""


@dataclass(frozen=True, slots=True, eq=False)
class Truncation:
    """The top-k and top-p of each row."""

    top_k: torch.Tensor
    """[B] int64; 0 means no limit."""
    top_p: torch.Tensor
    """[B] float32 in (0, 1]; 1 means no limit."""

    def __getitem__(self, rows: torch.Tensor) -> Truncation:
        """Return the same for some of the rows."""
        return Truncation(self.top_k[rows], self.top_p[rows])


def penalize_repetition(
    logits: torch.Tensor, ids: torch.Tensor, valid: torch.Tensor, penalty: torch.Tensor
) -> None:
    """Weaken every id of the history, in place: positive logits are divided, negative multiplied.

    Args:
        logits: [B, V]
        ids: [B, N] prompt and reply.
        valid: [B, N] bool, the first of a row always true; the others count.
        penalty: [B] > 0; 1 changes nothing.
    """
    ids = torch.where(valid, ids, ids[:, :1])
    seen, factor = logits.gather(1, ids), penalty[:, None]
    logits.scatter_(1, ids, torch.where(seen < 0, seen * factor, seen / factor))


def penalize_counts(
    logits: torch.Tensor,
    ids: torch.Tensor,
    valid: torch.Tensor,
    *,
    presence: torch.Tensor,
    frequency: torch.Tensor,
) -> None:
    """Subtract `presence` [B] once and `frequency` [B] for each occurrence, in place; as above."""
    counts = torch.zeros_like(logits).scatter_add_(1, ids, valid.to(logits.dtype))
    logits -= presence[:, None] * (counts > 0) + frequency[:, None] * counts


def draw(logits: torch.Tensor, truncation: Truncation, uniform: torch.Tensor) -> torch.Tensor:
    """Draw [B] ids: invert the truncated distribution's cumulative sum, largest id first.

    A row's choice depends on nothing but that row: equal logits and an equal seed give the same id
    in any batch.

    Args:
        logits: [B, V] float32 after penalties and temperature; at least one is finite in each row.
        truncation: top-k, then top-p of what top-k left.
        uniform: [B] float64 in [0, 1). In float32 it would be 1 once in 2**25 draws, and the draw
            the least likely id of all.
    """
    total = logits.logsumexp(-1, keepdim=True)
    if logits.shape[1] <= 2 * _NUM_CANDIDATES:
        return _draw_sorted(logits, total, truncation, uniform)[0]
    ids, settled = _draw_sorted(logits, total, truncation, uniform, num_candidates=_NUM_CANDIDATES)
    if not settled.all():
        rows = (~settled).nonzero().squeeze(1)
        ids[rows], _ = _draw_sorted(logits[rows], total[rows], truncation[rows], uniform[rows])
    return ids


def _draw_sorted(
    logits: torch.Tensor,
    total: torch.Tensor,
    truncation: Truncation,
    uniform: torch.Tensor,
    *,
    num_candidates: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids [B] drawn from the largest logits, and [B] whether more candidates change none."""
    largest, ids = logits.topk(num_candidates or logits.shape[1], dim=-1)
    probabilities = (largest - total).exp()  # [B, C], descending
    kept, settled = select_candidates(largest, probabilities, truncation, whole=not num_candidates)
    kept &= probabilities > 0
    kept[:, 0] = True
    cumulative = (probabilities * kept).cumsum(-1, dtype=torch.float64)
    # An open row keeps all of the distribution: its mass is 1, and the draw may lie beyond.
    mass = torch.where(settled, cumulative[:, -1], 1.0)
    target = (uniform * mass)[:, None]
    index = (cumulative <= target).sum(-1, keepdim=True)
    inside = index.squeeze(1) < len(ids[0])
    index = index.minimum(kept.sum(-1, keepdim=True) - 1)
    free = (truncation.top_k == 0) & (truncation.top_p >= 1)
    return ids.gather(1, index).squeeze(1), settled | (free & inside)


def select_candidates(
    largest: torch.Tensor, probabilities: torch.Tensor, truncation: Truncation, *, whole: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which candidates top-k and then top-p keep, and whether that is certain.

    Top-k keeps ties with its last; top-p keeps the fewest largest whose mass, of what top-k left,
    reaches it (the one that crosses is kept).

    Args:
        largest: [B, C] logits, descending.
        probabilities: [B, C] theirs in the whole distribution.
        truncation: [B] each.
        whole: C is the vocabulary.

    Returns:
        [B, C] bool, true from the left; and [B] bool, false where more may be kept beyond C.
    """
    width = largest.shape[1]
    top_k, top_p = truncation.top_k, truncation.top_p[:, None]
    limited = (top_k > 0) & (top_k < width)
    last = torch.where(limited, top_k, width) - 1
    within_k = largest >= largest.gather(1, last[:, None])
    closed_k = limited & ~within_k[:, -1]
    probabilities = probabilities * within_k
    cumulative = probabilities.cumsum(-1)
    mass = torch.where(closed_k | whole, cumulative[:, -1], 1.0)[:, None]
    before = cumulative - probabilities
    kept = within_k & ((before < top_p * mass) | (top_p >= 1))
    kept[:, 0] = True
    certain_mass = closed_k | (top_k == 0)
    return kept, (certain_mass & ~kept[:, -1]) | whole


def compute_log_probs(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return [B] natural logarithms of softmax(logits [B, V]) at ids [B]."""
    return logits.gather(1, ids[:, None]).squeeze(1) - logits.logsumexp(-1)


def list_likeliest(logits: torch.Tensor, count: int) -> tuple[tuple[int, float], ...]:
    """Return the `count` likeliest ids of one row [V] and the logarithms of their probabilities."""
    if not count:
        return ()
    largest, ids = logits.topk(min(count, len(logits)))
    values = largest - logits.logsumexp(-1)
    return tuple(zip(ids.tolist(), values.tolist(), strict=True))
