"""The parts of tokenizer.json's pipeline that piecewise decoding depends on.

The pipeline of llm-jp v2 and v3: Unigram with byte fallback; a space is spelled U+2581; the
normaliser puts one U+2581 before the text and the decoder takes one leading space away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmjp_runtime.text.errors import UnsupportedTokenizer

if TYPE_CHECKING:
    from llmjp_runtime.text.tokenizer_files import Object

SPACE = "\u2581"
"""How pieces spell a space."""

_LENGTH_KEEPING_PATTERNS = (" ", "^", r"(?<!\n)^")
"""Patterns that match at most one character."""


def strips_leading_space(pipeline: Object) -> bool:
    """Return whether the decoder takes one leading space off a decoded text.

    Raises:
        UnsupportedTokenizer: the decoder is not byte fallback, U+2581 to space and fuse.
    """
    decoder = pipeline.get("decoder")
    strips = False
    seen = set()
    for step in _list_steps(decoder, "decoders"):
        match step:
            case {"type": "ByteFallback" | "Fuse" as kind}:
                seen.add(kind)
            case {"type": "Replace", "pattern": pattern, "content": " "} if (
                _get_pattern(pattern) == SPACE
            ):
                seen.add("Replace")
            case {"type": "Replace", "pattern": {"Regex": r"(?<!\n)^ " | "^ "}, "content": ""}:
                strips = True
            case {"type": "Strip", "content": " ", "start": 1, "stop": 0}:
                strips = True
            case _:
                kind = step.get("type") if isinstance(step, dict) else step
                raise UnsupportedTokenizer(
                    f"tokenizer.json: decoder step {kind!r} is not supported"
                )
    missing = {"ByteFallback", "Fuse", "Replace"} - seen
    if missing:
        raise UnsupportedTokenizer(
            f"tokenizer.json: decoder has no {min(missing)} step; expected ByteFallback, "
            "Replace (U+2581 by space), Fuse"
        )
    return strips


def never_shortens(pipeline: Object) -> bool:
    """Return whether every character lands in a piece, so that pieces bound a text's length.

    True for normalisers that only insert U+2581 or put it for a space; composing ones (NFKC) can
    shorten. Without byte fallback, runs of unknown characters become one token.
    """
    model = pipeline.get("model")
    if not isinstance(model, dict) or model.get("byte_fallback") is not True:
        return False
    if pipeline.get("pre_tokenizer") is not None:
        return False
    return all(
        _keeps_length(step) for step in _list_steps(pipeline.get("normalizer"), "normalizers")
    )


def _keeps_length(step: object) -> bool:
    match step:
        case {"type": "Replace", "pattern": pattern, "content": str() as content}:
            return _get_pattern(pattern) in _LENGTH_KEEPING_PATTERNS and bool(content)
        case {"type": "Prepend"}:
            return True
        case _:
            return False


def _list_steps(part: Any, key: str) -> list[Any]:
    """Return the steps of a Sequence; a lone step is a sequence of one, null an empty one."""
    match part:
        case None:
            return []
        case {"type": "Sequence"}:
            steps = part.get(key)
            return steps if isinstance(steps, list) else []
        case _:
            return [part]


def _get_pattern(pattern: object) -> object:
    match pattern:
        case {"String": spelled} | {"Regex": spelled}:
            return spelled
        case _:
            return None
