"""From what a request asks for to token ids: prompts, stop strings, forbidden words, biases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_runtime.front.request import invalid
from llmjp_runtime.text.errors import InvalidText
from llmjp_runtime.text.messages import check_messages, decode_utf8
from llmjp_runtime.text.stop import StopMatcher

if TYPE_CHECKING:
    from llmjp_runtime.executor.protocol import ExecutorLimits
    from llmjp_runtime.front.request import Generate
    from llmjp_runtime.text.tokenizer import TextTokenizer


def build_prompt(
    ask: Generate, tokenizer: TextTokenizer, limits: ExecutorLimits
) -> tuple[int, ...]:
    """The prompt's ids; at least one new token fits behind them.

    Raises:
        RequestError: not UTF-8, not a conversation, unknown ids, empty or too long.
    """
    try:
        ids = _encode(ask, tokenizer, limits)
    except InvalidText as exc:
        raise invalid(str(exc)) from exc
    if len(ids) >= limits.max_context:
        raise _too_long(str(len(ids)), limits)
    return tuple(ids)


def _encode(ask: Generate, tokenizer: TextTokenizer, limits: ExecutorLimits) -> list[int]:
    if ask.input_ids is not None:
        return _checked_ids(ask.input_ids, limits)
    raw = ask.text if ask.text is not None else ask.messages
    assert raw is not None
    name = "text_input" if ask.text is not None else "messages"
    text = decode_utf8(name, raw)
    # A prompt that cannot fit is refused before the tokenizer spends seconds on it.
    at_least = tokenizer.min_tokens(text) if ask.text is not None else 0
    if at_least >= limits.max_context:
        raise _too_long(f"at least {at_least}", limits)
    if ask.text is not None:
        return tokenizer.encode_prompt(text)
    messages = check_messages(text)
    at_least = sum(tokenizer.min_tokens(message.content) for message in messages)
    if at_least >= limits.max_context:
        raise _too_long(f"at least {at_least}", limits)
    return tokenizer.encode_chat(messages)


def _checked_ids(ids: tuple[int, ...], limits: ExecutorLimits) -> list[int]:
    if not ids:
        raise invalid("input_ids: must not be empty")
    if not all(0 <= token < limits.vocab_size for token in ids):
        raise invalid(f"input_ids: every id must be in [0, {limits.vocab_size - 1}]")
    return list(ids)


def _too_long(found: str, limits: ExecutorLimits) -> Exception:
    return invalid(
        f"prompt: {found} tokens, but the context is {limits.max_context} tokens, of which one "
        "must be left for the reply"
    )


def stop_matcher(ask: Generate) -> StopMatcher:
    """A fresh matcher of the stop strings.

    Raises:
        RequestError: not UTF-8, too many or too long.
    """
    words = [_utf8("stop_words", word) for word in ask.stop_words]
    try:
        return StopMatcher(words)
    except InvalidText as exc:
        raise invalid(str(exc)) from exc


def forbidden_ids(ask: Generate, tokenizer: TextTokenizer) -> tuple[tuple[int, ...], ...]:
    """The id sequences of `bad_words`, as spelled at the start of a text and inside one."""
    words = (_utf8("bad_words", word) for word in ask.bad_words)
    return tuple(dict.fromkeys(ids for word in words for ids in tokenizer.encode_word(word)))


def bias_ids(ask: Generate, tokenizer: TextTokenizer) -> tuple[tuple[int, float], ...]:
    """The biased ids: every id of every word, as NVIDIA's preprocessing does it."""
    bias: dict[int, float] = {}
    for word, weight in ask.embedding_bias:
        text = _utf8("embedding_bias_words", word)
        for token in {token for ids in tokenizer.encode_word(text) for token in ids}:
            bias[token] = bias.get(token, 0.0) + weight
    return tuple(bias.items())


def _utf8(name: str, raw: bytes) -> str:
    try:
        return decode_utf8(name, raw)
    except InvalidText as exc:
        raise invalid(str(exc)) from exc
