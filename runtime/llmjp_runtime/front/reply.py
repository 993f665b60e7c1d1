"""Events of an executor to the parts of a reply that a client gets. No threads, no tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_runtime.executor.protocol import FinishReason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmjp_runtime.executor.protocol import TokenEvent
    from llmjp_runtime.text.detokenizer import Detokenizer
    from llmjp_runtime.text.stop_strings import StopMatcher


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyPart:
    """The content of one response; all `text` together is the reply, all `output_ids` its ids."""

    text: str
    output_ids: tuple[int, ...]
    """As generated: ids of a stop string, and of a character left unfinished, are among them."""
    log_probs: tuple[float, ...] | None
    """One per id of `output_ids`; None where the executor gives none."""
    top: tuple[tuple[tuple[int, float], ...], ...] = ()
    """The likeliest (id, logarithm) for each id of `output_ids`, where they were asked for."""
    num_output_tokens: int
    """Tokens of the whole reply so far, an end id included."""
    finish_reason: FinishReason | None = None
    error: str | None = None
    """Why generation failed; the part is then the last, and has no `finish_reason`."""
    elsewhere: bool = False
    """With an error: another server may answer the request."""
    cancel: bool = False
    """The reply is over but the executor does not know: cancel the request there."""

    @property
    def final(self) -> bool:
        """Return whether this is the reply's last part."""
        return self.finish_reason is not None or self.error is not None


class ReplyAssembler:
    """Folds the events of one request into parts. Not thread-safe: one sender at a time.

    Events after the final part are ignored and give empty parts: the executor continues until it
    sees the cancel.
    """

    def __init__(self, detokenizer: Detokenizer, stops: StopMatcher) -> None:
        """Take a fresh detokenizer and matcher: they keep the state of this reply."""
        self._detokenizer = detokenizer
        self._stops = stops
        self._num_output_tokens = 0
        self._over = False

    def feed(self, event: TokenEvent) -> ReplyPart:
        """Return what this event completes: perhaps only ids, with the text in a later part."""
        return self.feed_all((event,))

    def feed_all(self, events: Iterable[TokenEvent]) -> ReplyPart:
        """Return what all these events complete, as one part."""
        texts: list[str] = []
        ids: list[int] = []
        log_probs: list[float] | None = None
        top: list[tuple[tuple[int, float], ...]] = []
        reason, error, cancel, elsewhere = None, None, False, False
        for event in events:
            if self._over:
                break
            ids += event.token_ids
            if event.log_probs is not None:
                log_probs = [] if log_probs is None else log_probs
                log_probs += event.log_probs
            top += event.top or ()
            self._num_output_tokens = event.num_generated
            text, stopped = self._advance(event)
            texts.append(text)
            error, elsewhere = event.error, event.elsewhere
            if stopped and error is None:
                reason, cancel = FinishReason.STOP, not event.final
            else:
                reason = event.finish_reason
            self._over = stopped or event.final
        return ReplyPart(
            text="".join(texts),
            output_ids=tuple(ids),
            log_probs=None if log_probs is None else tuple(log_probs),
            top=tuple(top),
            num_output_tokens=self._num_output_tokens,
            finish_reason=reason,
            error=error,
            elsewhere=elsewhere,
            cancel=cancel,
        )

    def _advance(self, event: TokenEvent) -> tuple[str, bool]:
        """Return (text that the event completes, whether a stop string ends the reply).

        At the end what the stop matcher held back is text after all, up to a stop string in it.
        """
        text, stopped = self._stops.feed(self._detokenizer.feed(event.token_ids))
        if stopped or not event.final:
            return text, stopped
        rest, stopped = self._stops.flush()
        return text + rest, stopped
