"""Responses of the C++ model `tensorrt_llm`, folded into events. Pure.

A response carries the new ids of one beam and no reason for its end: the reason follows from what
was asked for. The token that ends a reply is counted but not put out where it is `end_id`
(cpp/tensorrt_llm/kernels/samplingTopKKernels.cu), and put out where it is a stop word. Log
probabilities come for the whole reply so far, with every response
(cpp/tensorrt_llm/batch_manager/llmRequest.cpp, createResult).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_runtime.executor.protocol import FinishReason, TokenEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from llmjp_runtime.executor.protocol import GenerationRequest

RESULTS = ("output_ids", "sequence_length", "output_log_probs")
"""The outputs to ask for; the model insists on the first two."""


class EngineReply:
    """One reply in the making; used by one thread."""

    def __init__(self, request: GenerationRequest) -> None:
        """Nothing has come yet."""
        self._sampling = request.sampling
        self._log_probs = request.log_probs
        self._num_tokens = 0
        self._ended = False

    @property
    def num_tokens(self) -> int:
        """New ids so far, an end id that was seen included."""
        return self._num_tokens

    def feed(self, outputs: Mapping[str, NDArray[np.generic]]) -> TokenEvent | None:
        """The event of one response; None where it brings no ids, as the last may.

        Args:
            outputs: `output_ids` [1, 1, n], `sequence_length` [1, 1], and for a request of log
                probabilities `output_log_probs` [1, 1, m].
        """
        if self._ended or "output_ids" not in outputs:
            return None
        length = int(outputs["sequence_length"].reshape(-1)[0])
        ids = [int(token) for token in outputs["output_ids"].reshape(-1)[:length]]
        before = self._num_tokens
        self._num_tokens += len(ids)
        if ids and ids[-1] in self._sampling.end_ids:
            self._ended = True
            ids.pop()
        if not ids:
            return None
        return TokenEvent(
            token_ids=tuple(ids),
            log_probs=self._new_log_probs(outputs, before, len(ids)),
            num_generated=before + len(ids),
        )

    def _new_log_probs(
        self, outputs: Mapping[str, NDArray[np.generic]], before: int, count: int
    ) -> tuple[float, ...] | None:
        if not self._log_probs or "output_log_probs" not in outputs:
            return None
        values = outputs["output_log_probs"].reshape(-1)
        start = before if len(values) >= before + count else 0
        return tuple(float(value) for value in values[start : start + count])

    def end(self, *, cancelled: bool) -> TokenEvent:
        """The final event, after the last response."""
        sampling = self._sampling
        if self._ended:
            reason = FinishReason.STOP
        elif self._num_tokens >= sampling.max_tokens:
            reason = FinishReason.LENGTH
        elif cancelled:
            reason = FinishReason.CANCELLED
        else:
            reason = FinishReason.STOP if sampling.end_ids else FinishReason.LENGTH
        unseen_end = reason is FinishReason.STOP and not self._ended
        return TokenEvent(num_generated=self._num_tokens + unseen_end, finish_reason=reason)
