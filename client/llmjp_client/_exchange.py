"""One request from its first attempt to the end of its reply. Sans I/O.

Time and chance are arguments, so that both shells (and tests) share every decision.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ._errors import (
    Cancelled,
    DeadlineExceeded,
    LlmJpError,
    Overloaded,
    ProtocolError,
    Unavailable,
    to_client_error,
)
from ._messages import decode_response
from ._types import Chunk, Reply, Usage

if TYPE_CHECKING:
    import grpc
    from tritonclient.grpc import service_pb2 as pb

RETRY_BUDGET: Final = 1024
"""Retries of refused requests that a client may send before any of its requests is answered."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The number of retries of an unanswered request, and the delays before them."""

    retries: int
    """0 switches retrying off."""
    initial_s: float = 0.1
    max_s: float = 2.0
    overloaded_initial_s: float = 0.5
    """A server without capacity needs longer than a Service that finds another pod."""
    overloaded_max_s: float = 8.0

    def compute_delay_s(self, attempt: int, chance: float) -> float:
        """Return seconds before retry number `attempt` (from 0).

        `min(max_s, initial_s * 2**attempt)`, of which the upper half is random.

        Args:
            attempt: the number of retries so far.
            chance: in [0, 1), so that clients that failed together do not retry together.
        """
        return float(min(self.max_s, self.initial_s * 2**attempt)) * (0.5 + chance / 2)

    def compute_overloaded_delay_s(
        self, attempt: int, chance: float, retry_after_s: float | None
    ) -> float:
        """Return seconds before a request is sent again that was refused for lack of capacity.

        Longer than `compute_delay_s`, and never less than the server asks for: its hint, of which
        up to a half is added, because it gave the same one to every refused request.
        """
        whole = float(min(self.overloaded_max_s, self.overloaded_initial_s * 2**attempt))
        return max(whole * (0.5 + chance / 2), (retry_after_s or 0.0) * (1 + chance / 2))


class RetryBudget:
    """A bound on all retries of refused requests of one client. Thread-safe.

    Each takes one, each reply gives one back: to a server without capacity a client sends at most
    as many retries as it got replies, and `size` more.
    """

    def __init__(self, size: int = RETRY_BUDGET) -> None:
        self._size = self._left = size
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take one retry; return False where none is left."""
        with self._lock:
            if self._left == 0:
                return False
            self._left -= 1
            return True

    def give_back(self) -> None:
        """Note a reply."""
        with self._lock:
            self._left = min(self._left + 1, self._size)


class Exchange:
    """One request from the first attempt to the end of its reply."""

    text: str
    """The reply so far."""
    finish_reason: str | None
    usage: Usage | None
    ended: bool
    """Nothing more is to be read."""
    cancelled: bool
    """Set by a shell that was told to stop; nothing is sent again after that."""

    def __init__(
        self,
        request: pb.ModelInferRequest,
        *,
        endpoint: str,
        retry_policy: RetryPolicy,
        timeout_s: float | None,
        retry_budget: RetryBudget | None = None,
    ) -> None:
        """`timeout_s` counts from the first attempt; None means no deadline."""
        self._request = request
        self._given_id = str(request.id)
        self._retry_budget = retry_budget or RetryBudget()
        self._endpoint = endpoint
        self._retry_policy = retry_policy
        self._timeout_s = timeout_s
        self._expires: float | None = None
        self._retries = 0
        self._complete = False
        self._chunks: list[Chunk] = []
        self.text = ""
        self.finish_reason = self.usage = None
        self.ended = self.cancelled = False

    @property
    def request_id(self) -> str:
        """The id sent with this attempt."""
        return str(self._request.id)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The server's warnings so far."""
        return tuple(warning for chunk in self._chunks for warning in chunk.warnings)

    def start_attempt(self, now: float) -> tuple[pb.ModelInferRequest, float | None]:
        """Return the request to send now, and the seconds it may take.

        Each attempt has an id of its own: the server may still run one that was lost on the way
        back, and refuses a second request of the same id.

        The deadline travels twice: gRPC's cuts the call, and the front model reads the request
        parameter `timeout` (microseconds), which Triton itself does not enforce.
        """
        if self._retries:
            # A copy: gRPC may still be sending the last one.
            before, self._request = self._request, type(self._request)()
            self._request.CopyFrom(before)
            self._request.id = f"{self._given_id}.{self._retries + 1}"
        if self._timeout_s is None:
            return self._request, None
        if self._expires is None:
            self._expires = now + self._timeout_s
        left = max(self._expires - now, 0.0)
        self._request.parameters["timeout"].int64_param = max(int(left * 1e6), 1)
        return self._request, left

    def receive(self, response: pb.ModelStreamInferResponse | None) -> Chunk | None:
        """Take one response, or None for the end of the call; return what it adds to the reply.

        Raises:
            LlmJpError: the response carries an error, or is not one of an llmjp model.
        """
        if response is None:
            self._finish()
            return None
        decoded = decode_response(response)
        self._complete = self._complete or decoded.final
        if decoded.input_tokens is not None and decoded.output_tokens is not None:
            self.usage = Usage(decoded.input_tokens, decoded.output_tokens)
        if (chunk := decoded.chunk) == Chunk():
            return None
        self.text += chunk.text
        self.finish_reason = chunk.finish_reason or self.finish_reason
        self._chunks.append(chunk)
        return chunk

    def recover(
        self, error: grpc.RpcError | LlmJpError, *, now: float, chance: float
    ) -> float | None:
        """Return seconds to wait before the next attempt; None if the reply is complete anyway.

        Args:
            error: raised by reading, or by `receive`.
            now: the time, on the clock of `start_attempt`.
            chance: in [0, 1), see `RetryPolicy.compute_delay_s`.

        Raises:
            LlmJpError: there is nothing to retry.
        """
        ours = to_client_error(error)
        if self._complete and not self.ended and not isinstance(error, LlmJpError):
            # The reply is complete: how the connection broke afterwards does not matter.
            try:
                self._finish()
                return None
            except LlmJpError as wrong:
                ours = wrong
        if self.cancelled:
            ours = Cancelled("the reply was cancelled on this side")
            ours.__cause__ = error
        delay = self._compute_delay_s(ours, chance)
        if delay is not None and self._may_wait(ours, now + delay):
            self._retries += 1
            return delay
        self.ended = True
        ours.endpoint, ours.request_id = self._endpoint, self.request_id
        ours.partial_text = self.text
        raise ours

    def _compute_delay_s(self, error: LlmJpError, chance: float) -> float | None:
        """Return seconds before the next attempt; None if there is to be none.

        Once something was generated there is none: a second reply may begin differently.
        """
        if self._chunks or self._retries >= self._retry_policy.retries:
            return None
        match error:
            case Unavailable():
                return self._retry_policy.compute_delay_s(self._retries, chance)
            case Overloaded():
                return self._retry_policy.compute_overloaded_delay_s(
                    self._retries, chance, error.retry_after
                )
            case _:
                return None

    def _may_wait(self, error: LlmJpError, until: float) -> bool:
        """Return whether the deadline and, for an overloaded server, the budget allow a retry."""
        if self._expires is not None and until >= self._expires:
            return False
        return not isinstance(error, Overloaded) or self._retry_budget.take()

    def _finish(self) -> None:
        """Note the end of the call; check that the reply is complete.

        Raises:
            ProtocolError: it is not.
            DeadlineExceeded: the server stopped at the deadline. Which side notices first is
                chance, so both raise the same error.
        """
        if not self._complete:
            raise ProtocolError("the stream ended without its final response")
        if self.finish_reason == "deadline":
            raise DeadlineExceeded("deadline exceeded")
        self.build_reply()
        self._retry_budget.give_back()
        self.ended = True

    def build_reply(self) -> Reply:
        """Return the whole reply, once it is complete.

        Raises:
            ProtocolError: the server left out the finish reason or the token counts.
        """
        if self.finish_reason is None:
            raise ProtocolError("the reply ended without finish_reason")
        if self.usage is None:
            raise ProtocolError("the reply ended without num_input_tokens and num_output_tokens")
        return Reply(
            text=self.text,
            finish_reason=self.finish_reason,
            usage=self.usage,
            output_ids=tuple(i for chunk in self._chunks for i in chunk.output_ids),
            log_probs=tuple(p for chunk in self._chunks for p in chunk.log_probs),
            request_id=self.request_id,
            warnings=self.warnings,
        )


class PartialReply:
    """The reply so far: the part of a stream that needs no I/O."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    @property
    def text(self) -> str:
        """The reply so far."""
        return self._exchange.text

    @property
    def finish_reason(self) -> str | None:
        """The reason why the reply ended; None before that."""
        return self._exchange.finish_reason

    @property
    def usage(self) -> Usage | None:
        """Token counts; None until the server has sent them."""
        return self._exchange.usage

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the server did otherwise than asked; it says so with the first text."""
        return self._exchange.warnings

    @property
    def request_id(self) -> str:
        """The id by which the server's log names this request."""
        return self._exchange.request_id
