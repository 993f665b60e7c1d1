"""Tokenises a request: its prompt, stop strings, bad words and biases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_runtime.front.bounds import check_num_messages, check_num_tokens
from llmjp_runtime.front.request import InvalidArgument
from llmjp_runtime.text.errors import InvalidText
from llmjp_runtime.text.messages import decode_utf8, parse_messages
from llmjp_runtime.text.stop_strings import StopMatcher, check_stop_length

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmjp_runtime.executor.protocol import ExecutorLimits
    from llmjp_runtime.front.bounds import RequestBounds
    from llmjp_runtime.front.request import ClientRequest
    from llmjp_runtime.text.messages import Message
    from llmjp_runtime.text.tokenizer import TextTokenizer


DROPPED_SYSTEM_MESSAGE = (
    "messages[0]: this model's chat template drops what a system message says; "
    "say it in the first user message"
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A tokenised prompt."""

    ids: tuple[int, ...]
    warnings: tuple[str, ...] = ()
    """What the client should know about it."""


def build_prompt(
    request: ClientRequest,
    tokenizer: TextTokenizer,
    limits: ExecutorLimits,
    bounds: RequestBounds,
) -> Prompt:
    """Return the prompt, with room for at least one new token.

    Raises:
        RequestError: not UTF-8, not a conversation, unknown ids, empty or too long.
    """
    try:
        ids, warnings = _encode(request, tokenizer, limits, bounds)
    except InvalidText as exc:
        raise InvalidArgument(str(exc)) from exc
    check_num_tokens(len(ids), limits.max_context)
    return Prompt(tuple(ids), warnings)


def _encode(
    request: ClientRequest,
    tokenizer: TextTokenizer,
    limits: ExecutorLimits,
    bounds: RequestBounds,
) -> tuple[list[int], tuple[str, ...]]:
    """Return (ids, warnings)."""
    if request.input_ids is not None:
        return _check_ids(request.input_ids, limits), ()
    raw = request.text if request.text is not None else request.messages
    assert raw is not None
    name = "text_input" if request.text is not None else "messages"
    text = decode_utf8(name, raw)
    # A prompt that cannot fit is refused before the tokenizer spends seconds on it.
    if request.text is not None:
        at_least = tokenizer.estimate_min_tokens(text)
        check_num_tokens(at_least, limits.max_context, "at least ")
        return tokenizer.encode_prompt(text), ()
    messages = parse_messages(text)
    check_num_messages(len(messages), bounds)
    at_least = sum(tokenizer.estimate_min_tokens(message.content) for message in messages)
    check_num_tokens(at_least, limits.max_context, "at least ")
    return tokenizer.encode_chat(messages), _find_dropped(messages, tokenizer)


def _find_dropped(messages: Sequence[Message], tokenizer: TextTokenizer) -> tuple[str, ...]:
    template = tokenizer.chat_template
    asks = messages[0].role == "system" and messages[0].content.strip()
    return (DROPPED_SYSTEM_MESSAGE,) if asks and template and template.drops_system_content else ()


def _check_ids(ids: tuple[int, ...], limits: ExecutorLimits) -> list[int]:
    if not ids:
        raise InvalidArgument("input_ids: must not be empty")
    if not all(0 <= token < limits.vocab_size for token in ids):
        raise InvalidArgument(f"input_ids: every id must be in [0, {limits.vocab_size - 1}]")
    return list(ids)


def build_stop_matcher(
    request: ClientRequest, tokenizer: TextTokenizer
) -> tuple[StopMatcher, dict[int, str]]:
    """Build a fresh matcher of the stop strings; return it and the marks of special tokens by id.

    Raises:
        RequestError: not UTF-8, too many or too long.
    """
    words = [_decode("stop_words", word) for word in request.stop_words]
    try:
        check_stop_length(words)
        marked, marks = tokenizer.mark_special_tokens(words)
    except InvalidText as exc:
        raise InvalidArgument(str(exc)) from exc
    return StopMatcher(words, marked), marks


def encode_bad_words(
    request: ClientRequest, tokenizer: TextTokenizer
) -> tuple[tuple[int, ...], ...]:
    """Return the id sequences of `bad_words`, as spelled at the start of a text and inside one."""
    words = (_decode("bad_words", word) for word in request.bad_words)
    return tuple(dict.fromkeys(ids for word in words for ids in tokenizer.encode_word(word)))


def encode_bias(request: ClientRequest, tokenizer: TextTokenizer) -> tuple[tuple[int, float], ...]:
    """Return the biased ids: every id of every word, as NVIDIA's preprocessing does it."""
    bias: dict[int, float] = {}
    for word, weight in request.embedding_bias:
        text = _decode("embedding_bias_words", word)
        for token in {token for ids in tokenizer.encode_word(text) for token in ids}:
            bias[token] = bias.get(token, 0.0) + weight
    return tuple(bias.items())


def _decode(name: str, raw: bytes) -> str:
    try:
        return decode_utf8(name, raw)
    except InvalidText as exc:
        raise InvalidArgument(str(exc)) from exc
