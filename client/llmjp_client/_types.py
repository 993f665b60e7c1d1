"""The values that callers pass in and get back: no protobuf, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypedDict

if TYPE_CHECKING:
    from os import PathLike

Message: TypeAlias = Mapping[str, str]
"""One turn of a conversation: `{"role": "system" | "user" | "assistant", "content": "..."}`."""

Prompt: TypeAlias = str | Sequence[int] | Sequence[Message]
"""A raw prompt, or its token ids, or a conversation (the model applies its chat template)."""


class Options(TypedDict, total=False):
    """Options of one reply; an option left out, or None, keeps the server's default."""

    max_tokens: int | None
    """Maximum number of tokens to generate."""
    min_tokens: int | None
    """The reply does not end by itself before this many tokens."""
    temperature: float | None
    """0 is greedy."""
    top_p: float | None
    top_k: int | None
    """1 is greedy."""
    repetition_penalty: float | None
    """1 is none; ids of prompt and reply count."""
    presence_penalty: float | None
    frequency_penalty: float | None
    stop: str | Sequence[str] | None
    """The reply ends before the first of these strings."""
    bad_words: str | Sequence[str] | None
    """Strings that are never generated."""
    seed: int | None
    """The same seed and request give the same reply; in [0, 2**64). A server that computes in
    bfloat16, as on GPUs, promises that only while it serves the same requests beside this one."""
    log_probs: bool | None
    """Ask for the natural logarithm of each id's probability."""
    timeout: float | None
    """Deadline in seconds for the whole reply, retries included; by default the client's own."""
    request_id: str | None
    """Shown in the server's log and in errors; generated if left out. Unique while it runs. An
    attempt after the first adds its number to it: `ID.2`."""
    metadata: Mapping[str, str] | None
    """Headers of this call; they replace the client's headers of the same names."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one request."""

    input_tokens: int
    """Ids of the prompt, after template and tokenisation."""
    output_tokens: int
    """Ids generated, including the one that ended the reply."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The addition of one response to a reply; the texts of all chunks, joined, are the reply."""

    text: str = ""
    output_ids: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    """One per id where `log_probs` was asked for."""
    finish_reason: str | None = None
    """Set on the last chunk: `stop`, `length`, `cancelled` or `deadline`."""
    warnings: tuple[str, ...] = ()
    """Set on the first chunk: what the server did otherwise than asked, and what to do instead."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply."""

    text: str
    finish_reason: str
    """`stop` (an end token or stop string), `length` (`max_tokens` or the context is used up),
    `cancelled` (someone stopped this request at the server)."""
    usage: Usage
    output_ids: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    """One per id where `log_probs` was asked for."""
    request_id: str = ""
    """That of the attempt that was answered."""
    warnings: tuple[str, ...] = ()
    """What the server did otherwise than asked: a system message that the model's chat template
    drops, for example."""


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """How far a batch is."""

    done: int
    """Prompts with a reply or an error."""
    failed: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """Encryption settings; each path names a PEM file.

    Example:
        >>> Client("llm.example.org:8001", tls=TLS(ca="ca.pem"))  # doctest: +SKIP
    """

    ca: str | PathLike[str] | None = None
    """Certificate authorities to trust; by default those built into gRPC."""
    certificate: str | PathLike[str] | None = None
    """This client's certificate, if the server asks for one (mutual TLS); needs `key`."""
    key: str | PathLike[str] | None = None
    server_name: str | None = None
    """Name to expect in the server's certificate if it is not the endpoint's host."""
