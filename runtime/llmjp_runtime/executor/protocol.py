"""The protocol between the front model and an executor.

An executor takes token ids and returns token ids, as events; it knows nothing of text, Triton's
tensors or clients. The front model turns requests into `GenerationRequest`, events into responses.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class FinishReason(StrEnum):
    """Why a reply ended; the values of the output tensor `finish_reason`."""

    STOP = "stop"
    """An end id was generated, or (decided by the front model) a stop string."""
    LENGTH = "length"
    """`max_tokens` were generated, or the context is full."""
    CANCELLED = "cancelled"
    """`Executor.cancel` was called, or the client left."""
    DEADLINE = "deadline"
    """The request's deadline passed (decided by the front model)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How new ids are sampled, in this order: penalties, temperature, top-k, top-p, draw."""

    max_tokens: int
    """New tokens at most, >= 1; the end id counts as one."""
    min_tokens: int = 0
    """End ids are not chosen before this many new tokens."""
    temperature: float = 1.0
    """> 0; 0 means greedy."""
    top_k: int = 0
    """1 is greedy; 0 means no limit."""
    top_p: float = 1.0
    """In (0, 1]; 1 means no limit."""
    repetition_penalty: float = 1.0
    """> 0; acts on every id in the prompt and the reply, as in transformers and TensorRT-LLM."""
    presence_penalty: float = 0.0
    """Subtracted once from each id of the reply (prompt not counted)."""
    frequency_penalty: float = 0.0
    """Subtracted from each id of the reply, times its count (prompt not counted)."""
    seed: int | None = None
    """Same seed, same request, same reply; None draws a fresh one.

    In float32 whatever else runs. In narrower dtypes only beside the same requests: the number of
    rows of a batch decides how sums are rounded.
    """
    end_ids: frozenset[int] = frozenset()
    """Ids that end the reply."""
    bad_words: tuple[tuple[int, ...], ...] = ()
    """Sequences of ids that are never completed."""
    embedding_bias: tuple[tuple[int, float], ...] = ()
    """(id, bias): added to that id's logit before anything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One reply to generate."""

    request_id: str
    """Unique among running requests; the handle for `Executor.cancel`."""
    prompt_ids: tuple[int, ...]
    """At least one id; len(prompt_ids) + max_tokens <= `ExecutorLimits.max_context`."""
    sampling: SamplingParams
    log_probs: bool = False
    """Events carry the log probabilities of the chosen ids."""
    num_top: int = 0
    """Events carry the so many likeliest ids at each place, too; 0 to 20."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEvent:
    """The result of one step for one request.

    The last event of a request, and only the last, has `finish_reason` or `error`. An end id is not
    part of `token_ids`, but counts in `num_generated`.
    """

    token_ids: tuple[int, ...] = ()
    log_probs: tuple[float, ...] | None = None
    """Natural logarithms, one per id, of the distribution after penalties and temperature."""
    top: tuple[tuple[tuple[int, float], ...], ...] | None = None
    """For each id the likeliest ids at its place and their logarithms, likeliest first."""
    num_generated: int = 0
    """New tokens so far, an end id included."""
    finish_reason: FinishReason | None = None
    error: str | None = None
    """Why generation failed, for the client; None in every healthy event."""
    elsewhere: bool = False
    """With an error: nothing is wrong with the request, and another server may answer it."""

    @property
    def final(self) -> bool:
        """Return whether this is the request's last event."""
        return self.finish_reason is not None or self.error is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorLimits:
    """Limits that the front model needs before it submits a request."""

    max_context: int
    """Prompt plus new tokens, at most."""
    vocab_size: int
    """Rows of the logits; ids are below this."""
    max_batch_size: int
    """Largest batch; further requests wait inside the executor, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorHealth:
    """One reading for `/readyz` and `/livez`."""

    heartbeat_age_s: float
    """Seconds since the executor's loop last ran (idle or busy)."""
    num_active: int
    """Requests in the batch."""
    num_waiting: int
    """Requests not yet started."""
    num_steps: int
    """Steps since start; must grow while `num_active` > 0."""
    num_generated: int
    """Tokens generated since start, over all requests."""
    error: str | None = None
    """Why the executor can serve no more; None while it can."""
    kv_cache_usage: float | None = None
    """Part of the KV cache that new requests cannot have, 0 to 1; None where it is not known."""


class Feature(StrEnum):
    """Optional features; a request that needs a missing one is refused by name."""

    LOG_PROBS = "log_probs"
    TOP_LOG_PROBS = "top_log_probs"
    BAD_WORDS = "bad_words"
    EMBEDDING_BIAS = "embedding_bias"
    MIN_TOKENS = "min_tokens"
    PRESENCE_PENALTY = "presence_penalty"
    FREQUENCY_PENALTY = "frequency_penalty"


class Executor(Protocol):
    """Generates ids for many requests at once. Thread-safe; no method blocks for a step."""

    @property
    def limits(self) -> ExecutorLimits:
        """Constant after construction."""
        ...

    @property
    def features(self) -> frozenset[Feature]:
        """Constant after construction."""
        ...

    def submit(self, request: GenerationRequest, on_event: Callable[[TokenEvent], None], /) -> None:
        """Queue a request; `on_event` is called once per step, in order, ending with a final event.

        `on_event` runs in the executor's own thread and must return at once.

        Raises:
            ValueError: the request breaks a limit or a running one has its id.
        """
        ...

    def cancel(self, request_id: str, /) -> bool:
        """Ask for the request to end; its slot is free within one step.

        A final event with `FinishReason.CANCELLED` follows, unless it ended by itself first.

        Returns:
            Whether the request was waiting or running.
        """
        ...

    def health(self) -> ExecutorHealth:
        """Return a reading, without taking a lock that is held during a step."""
        ...

    def close(self) -> None:
        """End every request (`CANCELLED`), stop the loop, free memory. Idempotent."""
        ...


class RecordedEvents:
    """An `on_event` that keeps every event, for callers that want the whole reply."""

    def __init__(self) -> None:
        """Start empty."""
        self.events: list[TokenEvent] = []
        self._done = threading.Event()

    def __call__(self, event: TokenEvent, /) -> None:
        """Keep one event."""
        self.events.append(event)
        if event.final:
            self._done.set()

    def wait(self, timeout_s: float | None = None) -> TokenEvent:
        """Block until the final event, and return it.

        Raises:
            TimeoutError: it did not come in time.
        """
        if not self._done.wait(timeout_s):
            raise TimeoutError(f"no final event within {timeout_s} s")
        return self.events[-1]

    @property
    def token_ids(self) -> tuple[int, ...]:
        """All ids so far."""
        return tuple(i for event in self.events for i in event.token_ids)
