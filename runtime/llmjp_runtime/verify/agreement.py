"""Distances between two computations: of one part of a model, of its logits. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence


class TokenErrors(NamedTuple):
    """Errors of some tokens, [T] each: see `PartAgreement`."""

    error: torch.Tensor
    gain: torch.Tensor

    @classmethod
    def of(cls, ours: torch.Tensor, reference: torch.Tensor) -> TokenErrors:
        """Measure outputs [T, n]."""
        size = reference.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        ours, reference = ours / size, reference / size
        return cls((ours - reference).norm(dim=-1), (ours * reference).sum(-1))


@dataclass(frozen=True, slots=True)
class PartAgreement:
    """One part of the model, given the reference's own input to it.

    Both numbers are medians over tokens: a token may have an output hundreds of times as large as
    the others' (the first one often does), and must not speak for them.
    """

    name: str
    """`embedding`, `layer 3 attention`, `layer 3 mlp`, `lm_head`; layers count from 0."""
    error: float
    """|ours - reference| / |reference|."""
    gain: float
    """Length of ours along the reference: 1 but for rounding, other where a scale is wrong."""

    @classmethod
    def of(cls, name: str, *found: TokenErrors) -> PartAgreement:
        """Return the medians over all tokens; a NaN anywhere makes both NaN."""
        error, gain = (torch.cat(numbers).median() for numbers in zip(*found, strict=True))
        return cls(name, float(error), float(gain))


def find_worst_part(parts: Sequence[PartAgreement]) -> PartAgreement:
    """Return the part with the largest error; a NaN is larger than all."""
    return max(parts, key=lambda part: (math.isnan(part.error), part.error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first token of a greedy reply that is not the reference's."""

    position: int
    """Tokens of the reply before it."""
    reference_id: int
    checkpoint_id: int
    margin: float
    """By how much the reference prefers its own, in logits: tiny where it hardly minds."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Positions:
    """Summary of the logits at n positions: [n] each, on the CPU."""

    max_error: torch.Tensor
    mean_error: torch.Tensor
    """Absolute errors of a position's logits."""
    variance: torch.Tensor
    """Variance of the reference's logits."""
    kl: torch.Tensor
    reference_loss: torch.Tensor
    checkpoint_loss: torch.Tensor
    """Negative log likelihood of the id that follows."""
    reference_id: torch.Tensor
    checkpoint_id: torch.Tensor
    """The most likely ids."""
    margin: torch.Tensor
    """The reference's logit of its own id less that of the checkpoint's."""

    @classmethod
    def of(cls, next_ids: torch.Tensor, ours: torch.Tensor, reference: torch.Tensor) -> Positions:
        """Summarize logits [n, V], which `next_ids` [n] follow."""
        error = (ours - reference).abs()
        p, q = reference.log_softmax(-1), ours.log_softmax(-1)
        next_ids = next_ids[:, None]
        best, reference_id = reference.max(-1)
        checkpoint_id = ours.argmax(-1)
        found = cls(
            max_error=error.amax(-1),
            mean_error=error.mean(-1),
            variance=reference.var(-1, correction=0),
            kl=(p.exp() * (p - q)).sum(-1).clamp_min(0),  # rounding goes below
            reference_loss=-p.gather(-1, next_ids)[:, 0],
            checkpoint_loss=-q.gather(-1, next_ids)[:, 0],
            reference_id=reference_id,
            checkpoint_id=checkpoint_id,
            margin=best - reference.gather(-1, checkpoint_id[:, None])[:, 0],
        )
        return cls(**{field.name: getattr(found, field.name).cpu() for field in fields(cls)})

    @classmethod
    def joined(cls, pieces: Sequence[Positions]) -> Positions:
        """Concatenate several, in order."""
        return cls(
            **{
                field.name: torch.cat([getattr(piece, field.name) for piece in pieces])
                for field in fields(cls)
            }
        )

    def rows(self, begin: int, end: int) -> Positions:
        """Return those from `begin` to before `end`."""
        return Positions(
            **{field.name: getattr(self, field.name)[begin:end] for field in fields(self)}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TextAgreement:
    """One text: a prompt and the reference's greedy reply to it."""

    num_tokens: int
    """After each there are logits."""
    max_error: float
    """Largest absolute error of the logits; NaN where anything is."""
    mean_error: float
    spread: float
    """Standard deviation of the reference's logits around each position's mean."""
    max_kl: float
    """Over positions, KL(reference || checkpoint) in nats."""
    mean_kl: float
    reference_loss: float
    """Mean negative log likelihood of the ids after the first."""
    checkpoint_loss: float
    agreeing: int
    """Positions at which both prefer the same id."""
    difference: Difference | None
    """None where the whole reply is the same."""

    @classmethod
    def of(cls, num_prompt: int, found: Positions) -> TextAgreement:
        """Summarize all positions of a text; what would follow the last one does not count."""
        predicted = max(1, len(found.kl) - 1)
        return cls(
            num_tokens=len(found.kl),
            max_error=float(found.max_error.max()),
            mean_error=float(found.mean_error.mean()),
            spread=float(found.variance.mean().sqrt()),
            max_kl=float(found.kl.max()),
            mean_kl=float(found.kl.mean()),
            reference_loss=float(found.reference_loss[:-1].sum()) / predicted,
            checkpoint_loss=float(found.checkpoint_loss[:-1].sum()) / predicted,
            agreeing=int((found.reference_id == found.checkpoint_id).sum()),
            difference=_find_difference(found.rows(num_prompt - 1, len(found.kl))),
        )


def _find_difference(reply: Positions) -> Difference | None:
    """Return the first difference; up to there the reference's ids are the checkpoint's, too."""
    differing = (reply.reference_id != reply.checkpoint_id).nonzero()
    if not len(differing):
        return None
    position = int(differing[0])
    return Difference(
        position=position,
        reference_id=int(reply.reference_id[position]),
        checkpoint_id=int(reply.checkpoint_id[position]),
        margin=float(reply.margin[position]),
    )
