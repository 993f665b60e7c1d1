"""Client for llm-jp models served by Triton: whole replies, streams, chat; blocking and asyncio.

Errors (`exit_code` is what the `llmjp` command exits with):

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
from ._types import TLS, Chunk, Message, Options, Prompt, Reply, Usage

__all__ = [
    "TLS",
    "AsyncClient",
    "AsyncStream",
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
