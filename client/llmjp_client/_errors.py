"""What can go wrong between a caller and the server.

    LlmJpError               1  base of everything this library raises on purpose
    |-- InvalidRequest       3  the request can never be answered as it is
    |   `-- ModelNotFound    3  no model of this name at this endpoint
    |-- NotPermitted         5  credentials are missing or do not suffice
    |-- Unsupported          6  this server cannot do what was asked
    |-- Unavailable          1  nobody answers, or the connection broke
    |   `-- ModelNotServed   1  the LlmJpModel does not serve; has its `phase` and `conditions`
    |-- Overloaded           1  the server answers, but has no room now
    |-- DeadlineExceeded     1  the time was up
    |-- Cancelled            1  the call was cancelled while someone read from it
    `-- ServerError          1  the server failed at a request it should have answered
        `-- ProtocolError    1  what came back is not a reply as llmjp models send it

The number is `exit_code`, which the command line exits with.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import grpc


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
    """What the reader of the message may check; empty where the reason says it all."""

    reason: str
    """What happened, in the server's words where it said something."""
    endpoint: str
    """`host:port`; empty where nothing was sent."""
    request_id: str
    partial_text: str
    """What had arrived of the reply; never part of the message."""

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
    """Credentials are missing or do not suffice."""

    exit_code = 5
    hint = "check the credentials in metadata= and the client certificate in tls="


class Unsupported(LlmJpError):
    """This server cannot do what was asked."""

    exit_code = 6


class Unavailable(LlmJpError):
    """Nobody answers at the endpoint, or the connection broke."""

    hint = (
        "check that the server runs, that this is its gRPC port (8001 unless changed), "
        "and that both sides use TLS or neither"
    )


class ModelNotServed(Unavailable):
    """The LlmJpModel does not serve: it cannot before somebody does something, or not yet."""

    hint = "`llmjp status` shows what it waits for"

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
    """The server answers, but has no room for the request now; try again later."""


class DeadlineExceeded(LlmJpError):
    """The reply was not finished in time."""

    hint = "raise timeout= or lower max_tokens="


class Cancelled(LlmJpError):
    """The call was cancelled, here or at the server, while someone read from it."""


class ServerError(LlmJpError):
    """The server failed at a request it should have answered."""


class ProtocolError(ServerError):
    """What came back is not a reply as llmjp models send it."""

    hint = "check that the endpoint serves an llmjp model"


BY_STATUS: Final[dict[grpc.StatusCode, type[LlmJpError]]] = {
    # A stream that ends well without its final response.
    grpc.StatusCode.OK: ProtocolError,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.UNKNOWN: ServerError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: ModelNotFound,
    # The id of a running request was used again.
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
"""Every status a call can end with."""

_BY_CODE: Final = {code.name.lower(): error for code, error in BY_STATUS.items()}

_IN_BAND: Final = re.compile(
    r"(?:\[request id: [^]]*] )?\[(?P<code>[a-z_]+)] (?P<reason>.*)", re.DOTALL
)
"""`[code] reason` as llmjp models write it, behind the request id that Triton may put first."""


_OF_TRITON: Final[tuple[tuple[re.Pattern[str], type[LlmJpError]], ...]] = (
    # It was asked to end: what runs goes on, and nothing new is taken.
    (re.compile(r"Request for unknown model: .* has no available versions"), Unavailable),
    (re.compile(r"Request for unknown model: "), ModelNotFound),
    (re.compile(r"unexpected inference input "), Unsupported),
    (re.compile(r"Stub process '[^']*' is not healthy"), Unavailable),
)
"""What callers must tell apart and Triton itself (2.51) says inside a stream, without a code."""


def from_status(code: grpc.StatusCode, details: str | None) -> LlmJpError:
    """The error for a call that ended with `code`."""
    return BY_STATUS[code](details or code.name.lower().replace("_", " "))


def from_in_band(message: str) -> LlmJpError:
    """The error for `error_message` inside a stream, which has no code of its own."""
    match = _IN_BAND.fullmatch(message)
    if match and (error := _BY_CODE.get(match["code"])):
        return error(match["reason"])
    known = (error for pattern, error in _OF_TRITON if pattern.search(message))
    return next(known, ServerError)(message)


def typed(error: grpc.RpcError | LlmJpError) -> LlmJpError:
    """The error as one of ours; gRPC's becomes the new one's cause."""
    if isinstance(error, LlmJpError):
        return error
    ours = from_status(error.code(), error.details())
    ours.__cause__ = error
    return ours
