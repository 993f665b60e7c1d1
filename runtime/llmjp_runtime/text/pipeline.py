"""What tokenizer.json's pipeline says about the length of a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_builder.contracts.judgement.decoding import list_steps

if TYPE_CHECKING:
    from llmjp_builder.contracts.judgement.tokenizer_files import Object

_LENGTH_KEEPING_PATTERNS = (" ", "^", r"(?<!\n)^")
"""Patterns that match at most one character."""


def never_shortens(pipeline: Object) -> bool:
    """Return whether every character lands in a piece, so that pieces bound a text's length.

    True for normalisers that only insert U+2581 or put it for a space; composing ones (NFKC) can
    shorten. Without byte fallback or byte level, runs of unknown characters become one token.
    """
    model = pipeline.get("model")
    splits = list_steps(pipeline.get("pre_tokenizer"), "pretokenizers")
    byte_level = any(isinstance(s, dict) and s.get("type") == "ByteLevel" for s in splits)
    if not byte_level and not (isinstance(model, dict) and model.get("byte_fallback") is True):
        return False
    normalizers = list_steps(pipeline.get("normalizer"), "normalizers")
    return all(map(_keeps_length, normalizers)) and all(map(_keeps_characters, splits))


def _keeps_length(step: object) -> bool:
    match step:
        case {"type": "Replace", "pattern": pattern, "content": str() as content}:
            return _get_pattern(pattern) in _LENGTH_KEEPING_PATTERNS and bool(content)
        case {"type": "Prepend"}:
            return True
        case _:
            return False


def _keeps_characters(step: object) -> bool:
    match step:
        case {"type": "Split", "behavior": behaviour}:
            return bool(behaviour != "Removed")
        case {"type": "ByteLevel" | "Metaspace" | "Digits"}:
            return True
        case _:
            return False


def _get_pattern(pattern: object) -> object:
    match pattern:
        case {"String": spelled} | {"Regex": spelled}:
            return spelled
        case _:
            return None
