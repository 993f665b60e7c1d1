"""What a request may hold at most, judged by sizes alone: before anything reads its values.

Pure and quick, for the thread that all requests come through. Bounds follow from the context:
nothing that could fit is refused, but for texts of megabytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_runtime.front.request import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_runtime.executor.protocol import ExecutorLimits
    from llmjp_runtime.front.request import Tensors

MAX_WORDS = 1024
"""Words of each list: `stop_words`, `bad_words`, `embedding_bias_words`."""
MAX_WORD_BYTES = 64 * 1024
"""Bytes of each list's words together."""
MAX_TEXT_BYTES = 2 * 1024 * 1024
"""Bytes of a prompt where more than 16 a token of the context would be more: reading a text stops
every thread for a moment, 2 MiB of JSON for up to 40 ms."""

_ASSUMED_LONGEST_PIECE = 256
"""Characters of a token, for tokenizers that say nothing about it."""
_UTF8_BYTES = 4
"""Bytes of a character at most."""
_JSON_BYTES = 12
"""Bytes of a character in JSON at most (`\\ud83c\\udf63`)."""
_MESSAGE_BYTES = 64
"""Bytes of a message around its content, with spaces; a message is a token at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestBounds:
    """The bounds of one server."""

    max_context: int
    """Tokens of prompt and reply: more `input_ids`, or messages of a token each, cannot fit."""
    max_bytes: Mapping[str, int]
    """Of the text tensors, by name."""


def derive_bounds(limits: ExecutorLimits, longest_piece: int) -> RequestBounds:
    """Derive the bounds from the context and the longest piece in characters (0: not known)."""
    context = limits.max_context
    most = max(MAX_TEXT_BYTES, 16 * context)
    characters = (longest_piece or _ASSUMED_LONGEST_PIECE) * context
    return RequestBounds(
        max_context=context,
        max_bytes={
            "text_input": min(_UTF8_BYTES * characters, most),
            "messages": min(_JSON_BYTES * characters + _MESSAGE_BYTES * context, most),
        },
    )


def check_bounds(tensors: Tensors, bounds: RequestBounds) -> int:
    """Return the bytes of the prompt, once nothing is beyond its bound.

    Raises:
        InvalidArgument: names the tensor, what was found and what is allowed.
    """
    if "input_ids" in tensors:
        check_num_tokens(tensors["input_ids"].size, bounds.max_context)
    for name in ("stop_words", "bad_words", "embedding_bias_words", "embedding_bias_weights"):
        if name in tensors and tensors[name].size > MAX_WORDS:
            raise InvalidArgument(
                f"{name}: {tensors[name].size} values, at most {MAX_WORDS} allowed"
            )
    for name in ("stop_words", "bad_words", "embedding_bias_words"):
        if (found := _count_bytes(tensors, name)) > MAX_WORD_BYTES:
            raise InvalidArgument(f"{name}: {found} bytes, at most {MAX_WORD_BYTES} allowed")
    sizes = {name: _count_bytes(tensors, name) for name in bounds.max_bytes}
    for name, found in sizes.items():
        _check_fits(f"{name}: {found} bytes", found, bounds.max_bytes[name], bounds)
    return sum(sizes.values())


def check_num_tokens(found: int, max_context: int, at_least: str = "") -> None:
    """Refuse a prompt that leaves no room for a token of the reply.

    Args:
        found: its tokens.
        max_context: tokens of prompt and reply.
        at_least: precedes the number where it is a lower bound.

    Raises:
        InvalidArgument: with both numbers.
    """
    if found >= max_context:
        raise InvalidArgument(
            f"prompt: {at_least}{found} tokens, but the context is {max_context} tokens, of which "
            "one must be left for the reply"
        )


def check_num_messages(found: int, bounds: RequestBounds) -> None:
    """Refuse a conversation of more messages than could fit.

    Raises:
        InvalidArgument: with both numbers.
    """
    _check_fits(f"messages: {found}", found, bounds.max_context - 1, bounds)


def _check_fits(found: str, size: int, allowed: int, bounds: RequestBounds) -> None:
    if size > allowed:
        raise InvalidArgument(
            f"{found}, at most {allowed} allowed: the context is {bounds.max_context} tokens"
        )


def _count_bytes(tensors: Tensors, name: str) -> int:
    array = tensors.get(name)
    return 0 if array is None else sum(len(word) for word in array.reshape(-1))
