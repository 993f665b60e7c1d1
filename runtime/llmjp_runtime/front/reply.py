"""Events of an executor to the parts of a reply that a client gets. No threads, no tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_runtime.executor.protocol import FinishReason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmjp_runtime.executor.protocol import TokenEvent
    from llmjp_runtime.text.detokenize import Detokenizer
    from llmjp_runtime.text.stop import StopMatcher


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one response carries. All `text` concatenated is the reply, all `output_ids` its ids."""

    text: str
    output_ids: tuple[int, ...]
    """As generated: ids of a stop string, and of a character left unfinished, are among them."""
    log_probs: tuple[float, ...] | None
    """One per id of `output_ids`; None where the executor gives none."""
    num_output_tokens: int
    """Of the whole reply so far, an end id included."""
    finish_reason: FinishReason | None = None
    error: str | None = None
    """Why generation failed; the part is then the last, and has no `finish_reason`."""
    cancel: bool = False
    """The reply is over but the executor does not know: cancel the request there."""

    @property
    def final(self) -> bool:
        """Whether this is the reply's last part."""
        return self.finish_reason is not None or self.error is not None


class ReplyAssembler:
    """Folds the events of one request into parts. Not thread-safe: one sender at a time.

    A part is given when there is text for it, or at the end; ids whose text is not yet complete
    wait for it. After the final part all events are ignored: the executor goes on until it sees the
    cancel.
    """

    def __init__(self, detokenizer: Detokenizer, stops: StopMatcher) -> None:
        """Both fresh: they keep the state of this reply."""
        self._detokenizer = detokenizer
        self._stops = stops
        self._ids: list[int] = []
        self._log_probs: list[float] | None = None
        self._num_output_tokens = 0
        self._over = False

    def feed(self, event: TokenEvent) -> Part | None:
        """What this event completes; None if that is nothing."""
        return self.feed_all((event,))

    def feed_all(self, events: Iterable[TokenEvent]) -> Part | None:
        """The same for all events that wait, as one part."""
        texts: list[str] = []
        for event in events:
            if self._over:
                break
            text, stopped = self._stops.feed(self._record(event))
            texts.append(text)
            if stopped:
                return self._last(texts, FinishReason.STOP, cancel=not event.final)
            if event.final:
                return self._flushed(texts, event.finish_reason, event.error)
        text = "".join(texts)
        return self._part(text) if text else None

    def finish(self, reason: FinishReason) -> Part | None:
        """The final part where the front model ends the reply (deadline); None if it is over."""
        return None if self._over else self._flushed([], reason, cancel=True)

    def _record(self, event: TokenEvent) -> str:
        self._ids += event.token_ids
        if event.log_probs is not None:
            self._log_probs = self._log_probs or []
            self._log_probs += event.log_probs
        self._num_output_tokens = max(self._num_output_tokens, event.num_generated)
        return self._detokenizer.feed(event.token_ids)

    def _flushed(
        self,
        texts: list[str],
        reason: FinishReason | None,
        error: str | None = None,
        *,
        cancel: bool = False,
    ) -> Part:
        """The end with what the matcher held back, which may hold a whole stop string."""
        text, stopped = self._stops.flush()
        reason = FinishReason.STOP if stopped and error is None else reason
        return self._last([*texts, text], reason, error, cancel=cancel)

    def _last(
        self,
        texts: list[str],
        reason: FinishReason | None,
        error: str | None = None,
        *,
        cancel: bool,
    ) -> Part:
        self._over = True
        return self._part("".join(texts), reason, error, cancel=cancel)

    def _part(
        self,
        text: str,
        reason: FinishReason | None = None,
        error: str | None = None,
        *,
        cancel: bool = False,
    ) -> Part:
        log_probs, ids = self._log_probs, self._ids
        self._log_probs, self._ids = None, []
        return Part(
            text=text,
            output_ids=tuple(ids),
            log_probs=None if log_probs is None else tuple(log_probs),
            num_output_tokens=self._num_output_tokens,
            finish_reason=reason,
            error=error,
            cancel=cancel,
        )
