"""Client for llm-jp models served by Triton: whole replies, streams, chat; blocking and asyncio.

Errors (`exit_code` is what the `llmjp` command exits with):

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

Each has `endpoint`, `request_id` and, where a reply had begun, `partial_text`.
`llmjp_client.testing` has a fake server for tests.

Example:
    >>> from llmjp_client import Client
    >>> with Client("localhost:8001") as client:  # doctest: +SKIP
    ...     reply = client.chat([{"role": "user", "content": "日本の首都はどこですか"}])
    ...     print(reply.text, reply.usage)
"""

from ._aio import AsyncClient, AsyncStream
from ._client import Client, Stream
from ._errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    LlmJpError,
    ModelNotFound,
    ModelNotServed,
    NotPermitted,
    Overloaded,
    ProtocolError,
    ServerError,
    Unavailable,
    Unsupported,
)
from ._types import TLS, BatchProgress, Chunk, Message, Options, Prompt, Reply, Usage

__all__ = [
    "TLS",
    "AsyncClient",
    "AsyncStream",
    "BatchProgress",
    "Cancelled",
    "Chunk",
    "Client",
    "DeadlineExceeded",
    "InvalidRequest",
    "LlmJpError",
    "Message",
    "ModelNotFound",
    "ModelNotServed",
    "NotPermitted",
    "Options",
    "Overloaded",
    "Prompt",
    "ProtocolError",
    "Reply",
    "ServerError",
    "Stream",
    "Unavailable",
    "Unsupported",
    "Usage",
]
