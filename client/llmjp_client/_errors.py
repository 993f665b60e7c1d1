"""The errors that this library raises on purpose.

    LlmJpError               1  base of everything this library raises on purpose
    |-- InvalidRequest       3  the request can never be answered as it is
    |   `-- ModelNotFound    3  no model of this name at this endpoint
    |-- NotPermitted         5  credentials are missing or not sufficient
    |-- Unsupported          6  this server, or this installation, cannot do that
    |-- Unavailable          1  no server answers, or the connection broke
    |   `-- ModelNotServed   1  the LlmJpModel does not serve (`phase`, `conditions`)
    |-- Overloaded           1  the server answers, but has no capacity now
    |-- DeadlineExceeded     1  the reply was not finished in time
    |-- Cancelled            1  the call was cancelled while the reply was read
    `-- ServerError          1  the server failed on a valid request
        `-- ProtocolError    1  the response is not one of an llmjp model

The number is `exit_code`, which the command line exits with.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import grpc

_TRY_AGAIN: Final = re.compile(r"try again in (?P<seconds>\d{1,6}(?:\.\d{1,6})?) s\b")
"""How a refusal for lack of capacity says when to send the request again."""


class LlmJpError(Exception):
    """Base of everything this library raises on purpose.

    Example:
        >>> try:  # doctest: +SKIP
        ...     reply = client.generate("自然言語処理とは")
        ... except Unavailable as error:
        ...     print(error.endpoint, error.partial_text)
    """

    exit_code: ClassVar[int] = 1
    hint: ClassVar[str] = ""
    """What the reader may check; empty where the reason says it all."""

    reason: str
    """What happened, in the server's words where there are any."""
    endpoint: str
    """`host:port`; empty where nothing was sent."""
    request_id: str
    partial_text: str
    """The part of the reply that had arrived; never part of the message."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = " ".join(reason.split())
        self.endpoint = self.request_id = self.partial_text = ""

    def __str__(self) -> str:
        where = f"{self.endpoint}: " if self.endpoint else ""
        hint = f"; {self.hint}" if self.hint else ""
        request = f" (request {self.request_id})" if self.request_id else ""
        return f"{where}{self.reason}{hint}{request}"


class InvalidRequest(LlmJpError, ValueError):
    """The request can never be answered as it is; the message names the tensor or option."""

    exit_code = 3


class ModelNotFound(InvalidRequest):
    """No model of this name at this endpoint."""


class NotPermitted(LlmJpError):
    """Credentials are missing or not sufficient."""

    exit_code = 5
    hint = "check the credentials in metadata= and the client certificate in tls="


class Unsupported(LlmJpError):
    """This server, or this installation, cannot do what was asked."""

    exit_code = 6


class Unavailable(LlmJpError):
    """No server answers at the endpoint, or the connection broke."""

    hint = (
        "check that the server is running, that this is its gRPC port (8001 by default), "
        "and that both sides use TLS or neither"
    )


class ModelNotServed(Unavailable):
    """The LlmJpModel does not serve: not yet, or not before somebody acts."""

    hint = "`llmjp status` shows what it is waiting for"

    phase: str
    conditions: tuple[dict[str, Any], ...]
    """As the operator wrote them."""

    def __init__(
        self, reason: str, phase: str = "", conditions: tuple[dict[str, Any], ...] = ()
    ) -> None:
        super().__init__(reason)
        self.phase = phase
        self.conditions = conditions


class Overloaded(LlmJpError):
    """The server answers, but has no capacity for the request now; try again later."""

    retry_after: float | None
    """Seconds after which the server expects to have capacity, where it says so."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        match = _TRY_AGAIN.search(self.reason)
        self.retry_after = float(match["seconds"]) if match else None


class DeadlineExceeded(LlmJpError):
    """The reply was not finished in time."""

    hint = "raise timeout= or lower max_tokens="


class Cancelled(LlmJpError):
    """The call was cancelled, here or at the server, while the reply was read."""


class ServerError(LlmJpError):
    """The server failed on a valid request."""


class ProtocolError(ServerError):
    """The response is not one that an llmjp model sends."""

    hint = "check that the endpoint serves an llmjp model"


BY_STATUS: Final[dict[grpc.StatusCode, type[LlmJpError]]] = {
    # A stream that ended without an error, but before its final response.
    grpc.StatusCode.OK: ProtocolError,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.UNKNOWN: ServerError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: ModelNotFound,
    # Another running request has the same id.
    grpc.StatusCode.ALREADY_EXISTS: InvalidRequest,
    grpc.StatusCode.PERMISSION_DENIED: NotPermitted,
    grpc.StatusCode.UNAUTHENTICATED: NotPermitted,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidRequest,
    grpc.StatusCode.ABORTED: ServerError,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.INTERNAL: ServerError,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DATA_LOSS: ServerError,
}
"""Every status that a call can end with."""

_BY_CODE: Final = {code.name.lower(): error for code, error in BY_STATUS.items()}

_IN_BAND: Final = re.compile(
    r"(?:\[request id: [^]]*] )?\[(?P<code>[a-z_]+)] (?P<reason>.*)", re.DOTALL
)
"""`[code] reason`, as llmjp models write it, after the request id that Triton may prepend."""


_TRITON_MESSAGES: Final[tuple[tuple[re.Pattern[str], type[LlmJpError]], ...]] = (
    # It is shutting down: running requests finish, new ones are refused.
    (re.compile(r"Request for unknown model: .* has no available versions"), Unavailable),
    (re.compile(r"Request for unknown model: "), ModelNotFound),
    (re.compile(r"unexpected inference input "), Unsupported),
    (re.compile(r"Stub process '[^']*' is not healthy"), Unavailable),
)
"""Messages without a code that Triton itself (2.51) sends inside a stream, as far as callers must
tell them apart."""


def from_status(code: grpc.StatusCode, details: str | None) -> LlmJpError:
    """Return the error for a call that ended with `code`."""
    return BY_STATUS[code](details or code.name.lower().replace("_", " "))


def from_in_band(message: str) -> LlmJpError:
    """Return the error for an `error_message` inside a stream, which has no status code."""
    match = _IN_BAND.fullmatch(message)
    if match and (error := _BY_CODE.get(match["code"])):
        return error(match["reason"])
    known = (error for pattern, error in _TRITON_MESSAGES if pattern.search(message))
    return next(known, ServerError)(message)


def to_client_error(error: grpc.RpcError | LlmJpError) -> LlmJpError:
    """Return the error as one of this library; gRPC's becomes its cause."""
    if isinstance(error, LlmJpError):
        return error
    ours = from_status(error.code(), error.details())
    ours.__cause__ = error
    return ours
