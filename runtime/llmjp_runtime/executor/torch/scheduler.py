"""Continuous batching: which ids go through the model at each step, and who gets the results.

Policy of a step: forget cancelled requests; then every running request decodes one id, and a budget
of prompt ids is read beside them, oldest request first. A prompt longer than the budget takes more
than one step, so that it cannot stall those who run.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from llmjp_runtime.executor.protocol import FinishReason, TokenEvent
from llmjp_runtime.executor.torch.batch import PromptPiece, build_step
from llmjp_runtime.executor.torch.sampler import Sampler
from llmjp_runtime.executor.torch.sequence import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmjp_runtime.executor.protocol import GenerationRequest
    from llmjp_runtime.executor.torch.model import ParallelLlama
    from llmjp_runtime.executor.torch.sampler import Choice

_logger = logging.getLogger(__name__)


class Engine:
    """Steps requests through a model. Single-threaded: whoever calls `step` calls everything else.

    The request at `_running[i]` owns the cache's slot i: decoding ones first, then at most one
    whose prompt is partly read. So decoding slots are contiguous, and attention reads them in
    place.
    """

    def __init__(
        self,
        model: ParallelLlama,
        *,
        max_batch_size: int,
        max_context: int,
        num_valid_ids: int | None = None,
        prompt_budget: int = 512,
    ) -> None:
        self._model = model
        self._cache = model.cache(num_slots=max_batch_size, max_length=max_context)
        self._sampler = Sampler(vocab_size=model.config.vocab_size, num_valid_ids=num_valid_ids)
        self._prompt_budget = prompt_budget
        self._waiting: deque[Reply] = deque()
        self._running: list[Reply] = []
        self._replies: dict[str, Reply] = {}
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
        """Whether a step would do anything."""
        return bool(self._replies)

    def add(self, request: GenerationRequest, on_event: Callable[[TokenEvent], None]) -> None:
        """Queue a request that passed `admission.check_request`, under an id that is free."""
        reply = self._replies[request.request_id] = Reply(request, on_event)
        self._waiting.append(reply)

    def cancel(self, request_id: str) -> None:
        """Mark a request; the next step frees its slot before anything else."""
        if (reply := self._replies.get(request_id)) is not None:
            reply.cancelled = True

    def step(self) -> None:
        """Forget cancelled requests, then give every running one its next id."""
        self._forget_cancelled()
        num_decodes = sum(not reply.reading for reply in self._running)
        pieces = self._pieces()
        if not self._running:
            return
        decodes = [(reply.ids[-1], len(reply.ids) - 1) for reply in self._running[:num_decodes]]
        step = build_step(decodes, pieces, self._cache, self._model.dtype)
        logits = self._model.forward(step, self._cache)
        self.num_steps += 1
        for piece in pieces:
            self._running[piece.slot].num_read = piece.stop
        ready = [reply for reply in self._running if not reply.reading]
        if ready:
            self._deliver(ready, self._sampler.choose(logits, ready, self._cache))

    def cancel_all(self) -> None:
        """End every request with `CANCELLED`."""
        for reply in self._replies.values():
            reply.cancelled = True
        self._forget_cancelled()

    def close(self) -> None:
        """End every request with `CANCELLED` and let go of weights and cache."""
        self.cancel_all()
        del self._model, self._cache

    def fail_all(self, message: str) -> None:
        """End every request with an error."""
        self._running.clear()
        self._waiting.clear()
        for reply in list(self._replies.values()):
            self._end(reply, TokenEvent(num_generated=reply.num_generated, error=message))

    def _pieces(self) -> list[PromptPiece]:
        """Prompts to read in this step; new requests get their slot here."""
        pieces: list[PromptPiece] = []
        budget = self._prompt_budget
        reading = [slot for slot, reply in enumerate(self._running) if reply.reading]
        while budget > 0:
            if reading:
                slot = reading.pop()
            elif self._waiting and len(self._running) < self._cache.num_slots:
                slot = len(self._running)
                self._running.append(self._waiting.popleft())
            else:
                break
            piece = _next_piece(self._running[slot], slot, budget)
            budget -= len(piece.ids)
            pieces.append(piece)
        return pieces

    def _deliver(self, replies: list[Reply], choices: list[Choice]) -> None:
        ended: list[tuple[Reply, TokenEvent]] = []
        for reply, choice in zip(replies, choices, strict=True):
            event = _event(reply, choice)
            self.num_generated += event.error is None
            if event.final:
                ended.append((reply, event))
            else:
                self._emit(reply, event)
        # Slots are free before anybody hears of it, so that health never lags behind events.
        for reply, _ in ended:
            self._release(reply)
        for reply, event in ended:
            self._end(reply, event)

    def _forget_cancelled(self) -> None:
        gone = [reply for reply in self._replies.values() if reply.cancelled]
        if not gone:
            return
        self._waiting = deque(reply for reply in self._waiting if not reply.cancelled)
        for reply in [reply for reply in self._running if reply.cancelled]:
            self._release(reply)
        for reply in gone:
            self._end(
                reply,
                TokenEvent(num_generated=reply.num_generated, finish_reason=FinishReason.CANCELLED),
            )

    def _release(self, reply: Reply) -> None:
        """Free a slot: the last decoding request fills the gap, a prompt being read follows."""
        gap = self._running.index(reply)
        last = len(self._running) - 1
        if self._running[last].reading and gap < last:
            self._move(last - 1, gap)
            gap = last - 1
        self._move(last, gap)
        self._running.pop()

    def _move(self, source: int, target: int) -> None:
        if source != target:
            reply = self._running[target] = self._running[source]
            self._cache.move(source, target, reply.num_cached)

    def _end(self, reply: Reply, event: TokenEvent) -> None:
        del self._replies[reply.request.request_id]
        self._emit(reply, event)

    def _emit(self, reply: Reply, event: TokenEvent) -> None:
        try:
            reply.on_event(event)
        except Exception:
            # One listener's fault must not end the others' replies.
            _logger.exception("request's event listener failed")
            reply.cancelled = True


def _next_piece(reply: Reply, slot: int, budget: int) -> PromptPiece:
    stop = min(reply.num_read + budget, reply.num_prompt)
    return PromptPiece(
        slot=slot,
        start=reply.num_read,
        ids=reply.ids[reply.num_read : stop],
        wants_logits=stop == reply.num_prompt,
    )


def _event(reply: Reply, choice: Choice) -> TokenEvent:
    """Append the chosen id to the reply, and say so."""
    if not choice.sound:
        return TokenEvent(
            num_generated=reply.num_generated,
            error="the model's logits are not finite: compute in bfloat16 or float32",
        )
    reply.ids.append(choice.id)
    reason = reply.finish_reason()
    visible = reason is not FinishReason.STOP
    return TokenEvent(
        token_ids=(choice.id,) if visible else (),
        log_probs=((choice.log_prob,) if visible else ()) if reply.request.log_probs else None,
        num_generated=reply.num_generated,
        finish_reason=reason,
    )
