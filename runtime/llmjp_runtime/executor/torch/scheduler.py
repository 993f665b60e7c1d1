"""Continuous batching with chunked prefill: which ids go through the model at each step.

Policy of a step: drop cancelled requests; then every running request decodes one id, and a budget
of prompt ids is prefilled beside them, oldest request first. A prompt longer than the budget takes
several steps, so that it cannot stall running requests. A request that has a slot keeps it to its
end: nothing is preempted, since each slot holds a whole context.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from llmjp_runtime.executor.protocol import FinishReason, TokenEvent
from llmjp_runtime.executor.torch.batch import PrefillChunk, build_batch
from llmjp_runtime.executor.torch.sampler import Sampler
from llmjp_runtime.executor.torch.sequence import TokenSequence

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmjp_runtime.executor.protocol import GenerationRequest
    from llmjp_runtime.executor.torch.model import ParallelLlama
    from llmjp_runtime.executor.torch.sampler import SampledToken

_logger = logging.getLogger(__name__)


class Scheduler:
    """Steps requests through a model. Single-threaded: one thread calls all methods.

    The request at `_running[i]` owns the cache's slot i: decoding ones first, then at most one
    whose prompt is partly prefilled. So decoding slots are contiguous, and attention reads them in
    place.
    """

    def __init__(
        self,
        model: ParallelLlama,
        *,
        max_batch_size: int,
        max_context: int,
        num_valid_ids: int | None = None,
        prefill_budget: int = 512,
    ) -> None:
        self._model = model
        self._cache = model.allocate_cache(num_slots=max_batch_size, max_length=max_context)
        self._sampler = Sampler(vocab_size=model.config.vocab_size, num_valid_ids=num_valid_ids)
        self._prefill_budget = prefill_budget
        self._waiting: deque[TokenSequence] = deque()
        self._running: list[TokenSequence] = []
        self._sequences: dict[str, TokenSequence] = {}
        self.num_steps = 0
        """Passes through the model."""
        self.num_generated = 0
        """New ids over all requests."""

    @property
    def num_active(self) -> int:
        """Requests that hold a slot."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Requests without a slot."""
        return len(self._waiting)

    @property
    def has_work(self) -> bool:
        """Return whether a step would do anything."""
        return bool(self._sequences)

    def add(self, request: GenerationRequest, on_event: Callable[[TokenEvent], None]) -> None:
        """Queue a request that passed `admission.check_request`, under an id that is free."""
        sequence = self._sequences[request.request_id] = TokenSequence(request, on_event)
        self._waiting.append(sequence)

    def cancel(self, request_id: str) -> None:
        """Mark a request; the next step frees its slot before anything else."""
        if (sequence := self._sequences.get(request_id)) is not None:
            sequence.cancelled = True

    def step(self) -> None:
        """Drop cancelled requests, then give every running one its next id."""
        self._drop_cancelled()
        num_decodes = sum(not sequence.in_prefill for sequence in self._running)
        chunks = self._plan_prefill()
        if not self._running:
            return
        decodes = [
            (sequence.ids[-1], len(sequence.ids) - 1) for sequence in self._running[:num_decodes]
        ]
        batch = build_batch(decodes, chunks, self._cache, self._model.dtype)
        logits = self._model.forward(batch, self._cache)
        self.num_steps += 1
        for chunk in chunks:
            self._running[chunk.slot].num_prefilled = chunk.stop
        ready = [sequence for sequence in self._running if not sequence.in_prefill]
        if ready:
            self._deliver(ready, self._sampler.sample(logits, ready, self._cache))

    def cancel_all(self) -> None:
        """End every request with `CANCELLED`."""
        for sequence in self._sequences.values():
            sequence.cancelled = True
        self._drop_cancelled()

    def close(self) -> None:
        """End every request with `CANCELLED` and free weights and cache."""
        self.cancel_all()
        del self._model, self._cache

    def fail_all(self, message: str) -> None:
        """End every request with an error."""
        self._running.clear()
        self._waiting.clear()
        for sequence in list(self._sequences.values()):
            self._finish(sequence, TokenEvent(num_generated=sequence.num_generated, error=message))

    def _plan_prefill(self) -> list[PrefillChunk]:
        """Choose the prompt chunks of this step; admit new requests into free slots."""
        chunks: list[PrefillChunk] = []
        budget = self._prefill_budget
        in_prefill = [slot for slot, sequence in enumerate(self._running) if sequence.in_prefill]
        while budget > 0:
            if in_prefill:
                slot = in_prefill.pop()
            elif self._waiting and len(self._running) < self._cache.num_slots:
                slot = len(self._running)
                self._running.append(self._waiting.popleft())
            else:
                break
            chunk = _next_chunk(self._running[slot], slot, budget)
            budget -= len(chunk.ids)
            chunks.append(chunk)
        return chunks

    def _deliver(self, sequences: list[TokenSequence], tokens: list[SampledToken]) -> None:
        ended: list[tuple[TokenSequence, TokenEvent]] = []
        for sequence, token in zip(sequences, tokens, strict=True):
            event = _append_token(sequence, token)
            self.num_generated += event.error is None
            if event.final:
                ended.append((sequence, event))
            else:
                self._emit(sequence, event)
        # Slots are freed before listeners are told, so that health never lags behind events.
        for sequence, _ in ended:
            self._release(sequence)
        for sequence, event in ended:
            self._finish(sequence, event)

    def _drop_cancelled(self) -> None:
        gone = [sequence for sequence in self._sequences.values() if sequence.cancelled]
        if not gone:
            return
        self._waiting = deque(sequence for sequence in self._waiting if not sequence.cancelled)
        for sequence in [sequence for sequence in self._running if sequence.cancelled]:
            self._release(sequence)
        for sequence in gone:
            self._finish(
                sequence,
                TokenEvent(
                    num_generated=sequence.num_generated, finish_reason=FinishReason.CANCELLED
                ),
            )

    def _release(self, sequence: TokenSequence) -> None:
        """Free a slot: the last decoding request fills the gap, one in prefill moves up."""
        gap = self._running.index(sequence)
        last = len(self._running) - 1
        if self._running[last].in_prefill and gap < last:
            self._move_slot(last - 1, gap)
            gap = last - 1
        self._move_slot(last, gap)
        self._running.pop()

    def _move_slot(self, source: int, target: int) -> None:
        if source != target:
            sequence = self._running[target] = self._running[source]
            self._cache.move_slot(source, target, sequence.num_cached)

    def _finish(self, sequence: TokenSequence, event: TokenEvent) -> None:
        del self._sequences[sequence.request.request_id]
        self._emit(sequence, event)

    def _emit(self, sequence: TokenSequence, event: TokenEvent) -> None:
        try:
            sequence.on_event(event)
        except Exception:
            # One listener's error must not end the others' replies.
            _logger.exception("request's event listener failed")
            sequence.cancelled = True


def _next_chunk(sequence: TokenSequence, slot: int, budget: int) -> PrefillChunk:
    stop = min(sequence.num_prefilled + budget, sequence.num_prompt)
    return PrefillChunk(
        slot=slot,
        start=sequence.num_prefilled,
        ids=sequence.ids[sequence.num_prefilled : stop],
        needs_logits=stop == sequence.num_prompt,
    )


def _append_token(sequence: TokenSequence, token: SampledToken) -> TokenEvent:
    """Append the sampled id and return the event that reports it."""
    if not token.is_finite:
        return TokenEvent(
            num_generated=sequence.num_generated,
            error="the model's logits are not finite: compute in bfloat16 or float32",
        )
    sequence.ids.append(token.id)
    reason = sequence.finish_reason
    visible = reason is not FinishReason.STOP
    return TokenEvent(
        token_ids=(token.id,) if visible else (),
        log_probs=((token.log_prob,) if visible else ()) if sequence.request.log_probs else None,
        top=((token.top,) if visible else ()) if sequence.request.num_top else None,
        num_generated=sequence.num_generated,
        finish_reason=reason,
    )
