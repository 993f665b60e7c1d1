"""Samples one token for each sequence from a step's logits; settings are batched as tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from llmjp_runtime.executor.torch.sampling import (
    Truncation,
    compute_log_probs,
    draw,
    list_likeliest,
    penalize_counts,
    penalize_repetition,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmjp_runtime.executor.protocol import SamplingParams
    from llmjp_runtime.executor.torch.kv_cache import KVCache
    from llmjp_runtime.executor.torch.sequence import TokenSequence

_LOWEST_TEMPERATURE = 1e-6
"""Lower ones would overflow float32; the largest logit wins either way."""


@dataclass(frozen=True, slots=True)
class SampledToken:
    """The token sampled for a sequence."""

    id: int
    log_prob: float
    """0 if the request did not ask for it."""
    top: tuple[tuple[int, float], ...]
    """The likeliest ids and their logarithms; none if the request did not ask for them."""
    is_finite: bool
    """False if the logits had no finite maximum: the id means nothing then."""


class Sampler:
    """Samples ids; keeps the tensors of the settings for as long as the same sequences run."""

    def __init__(self, *, vocab_size: int, num_valid_ids: int | None) -> None:
        self._first_invalid = min(num_valid_ids or vocab_size, vocab_size)
        self._settings: _BatchSettings | None = None

    @torch.inference_mode()
    def sample(
        self, logits: torch.Tensor, sequences: Sequence[TokenSequence], cache: KVCache
    ) -> list[SampledToken]:
        """Sample one token for each sequence; row = slot. Overwrites `logits` (float32 [B, V])."""
        settings = self._settings
        if settings is None or settings.sequences != sequences:
            settings = self._settings = _BatchSettings.from_sequences(sequences, logits.device)
        logits[:, self._first_invalid :] = -torch.inf
        for row, biased, bias in settings.biases:
            logits[row].index_add_(0, biased, bias)
        _forbid(logits, settings.ruled_rows, sequences)
        if settings.penalised:
            _apply_penalties(logits, settings, cache)
        best, ids = logits.max(-1)
        if settings.scaled:
            logits /= settings.temperature
        if settings.drawn_rows:
            uniform = torch.tensor(
                [sequences[row].rng.random() for row in settings.drawn_rows], dtype=torch.float64
            )
            rows = settings.drawn
            ids[rows] = draw(logits[rows], settings.truncation, uniform.to(logits.device))
        log_probs = (
            compute_log_probs(logits, ids).tolist() if settings.log_probs else [0.0] * len(ids)
        )
        top = [list_likeliest(logits[row], s.request.num_top) for row, s in enumerate(sequences)]
        return list(map(SampledToken, ids.tolist(), log_probs, top, best.isfinite().tolist()))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _BatchSettings:
    """The sampling settings of B fixed sequences, as tensors."""

    sequences: list[TokenSequence]
    ruled_rows: list[int]
    """Rows with forbidden words or a minimal length."""
    biases: list[tuple[int, torch.Tensor, torch.Tensor]]
    """(row, ids, bias of each id) of the rows with biases."""
    repetition: torch.Tensor | None
    """[B]; None if no request sets it, like the next two."""
    presence: torch.Tensor | None
    frequency: torch.Tensor | None
    num_prompt: torch.Tensor
    """[B, 1]"""
    temperature: torch.Tensor
    """[B, 1]; 1 for temperature 0."""
    scaled: bool
    drawn_rows: list[int]
    drawn: torch.Tensor
    """`drawn_rows` as a tensor."""
    truncation: Truncation
    """The settings of the drawn rows."""
    log_probs: bool

    @property
    def penalised(self) -> bool:
        """Return whether the history matters."""
        return self.repetition is not None or self.presence is not None

    @classmethod
    def from_sequences(
        cls, sequences: Sequence[TokenSequence], device: torch.device
    ) -> _BatchSettings:
        """Gather the sequences' settings into tensors."""
        asked = [sequence.request.sampling for sequence in sequences]
        drawn = [row for row, sampling in enumerate(asked) if not _is_greedy(sampling)]
        counted = any(s.presence_penalty or s.frequency_penalty for s in asked)

        def floats(values: list[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        def integers(values: list[int]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.int64, device=device)

        return cls(
            sequences=list(sequences),
            ruled_rows=[
                row
                for row, sampling in enumerate(asked)
                if sampling.bad_words or sampling.min_tokens
            ],
            biases=[
                (row, integers([i for i, _ in bias]), floats([value for _, value in bias]))
                for row, bias in enumerate(sampling.embedding_bias for sampling in asked)
                if bias
            ],
            repetition=floats([s.repetition_penalty for s in asked])
            if any(s.repetition_penalty != 1 for s in asked)
            else None,
            presence=floats([s.presence_penalty for s in asked]) if counted else None,
            frequency=floats([s.frequency_penalty for s in asked]) if counted else None,
            num_prompt=integers([sequence.num_prompt for sequence in sequences])[:, None],
            temperature=floats(
                [max(s.temperature, _LOWEST_TEMPERATURE) if s.temperature else 1.0 for s in asked]
            )[:, None],
            scaled=any(s.temperature not in {0, 1} for s in asked),
            drawn_rows=drawn,
            drawn=integers(drawn),
            truncation=Truncation(
                integers([asked[row].top_k for row in drawn]),
                floats([asked[row].top_p for row in drawn]),
            ),
            log_probs=any(sequence.request.log_probs for sequence in sequences),
        )


def _is_greedy(sampling: SamplingParams) -> bool:
    return sampling.temperature == 0 or sampling.top_k == 1


def _forbid(logits: torch.Tensor, rows: Sequence[int], sequences: Sequence[TokenSequence]) -> None:
    """Mask forbidden ids, row by row: few requests have any."""
    for row in rows:
        if forbidden := list(sequences[row].forbidden_ids):
            logits[row, forbidden] = -torch.inf


def _apply_penalties(logits: torch.Tensor, settings: _BatchSettings, cache: KVCache) -> None:
    lengths = torch.tensor(
        [[len(sequence.ids)] for sequence in settings.sequences], device=logits.device
    )
    longest = max(len(sequence.ids) for sequence in settings.sequences)
    ids = cache.view_history(len(settings.sequences), longest)
    position = torch.arange(longest, device=logits.device)
    valid = position < lengths
    if settings.repetition is not None:
        penalize_repetition(logits, ids, valid, settings.repetition)
    if settings.presence is not None and settings.frequency is not None:
        valid &= position >= settings.num_prompt
        penalize_counts(
            logits, ids, valid, presence=settings.presence, frequency=settings.frequency
        )
