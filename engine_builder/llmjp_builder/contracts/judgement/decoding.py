"""What tokenizer.json's decoder says about turning pieces into text, one after another. Pure.

Two families: pieces of text, in which U+2581 spells a space and `<0x0A>` a byte (SentencePiece,
llm-jp), and pieces of bytes, spelled in GPT-2's alphabet (byte-level BPE, Llama 3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmjp_builder.contracts.errors import UnsupportedRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

SPACE = "\u2581"
"""How pieces of text spell a space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingRules:
    """How pieces become text. All false: they are text as they are."""

    byte_level: bool = False
    """Each character of a piece stands for a byte."""
    byte_fallback: bool = False
    """The pieces `<0x00>` to `<0xFF>` are bytes."""
    spells_spaces: bool = False
    """U+2581 in a piece is a space."""
    spells_spaces_in_bytes: bool = False
    """So is one that byte tokens make together."""
    strips_space: bool = False
    """A text loses one leading space."""
    strips_first_piece: bool = False
    """A text loses every space of its first piece (Metaspace)."""


def parse_decoding_rules(pipeline: Mapping[str, Any]) -> DecodingRules:
    """Parse the decoder.

    Raises:
        UnsupportedRequest: its steps are others than those of the two families, or stand in an
            order in which they mean something else.
    """
    steps = list_steps(pipeline.get("decoder"), "decoders")
    order = "".join(map(_abbreviate_step, steps))
    if order == "L":
        return DecodingRules(byte_level=True)
    if order in {"M", "m"}:
        return DecodingRules(spells_spaces=True, strips_first_piece=order == "M")
    if re.fullmatch("(SB|BS|S)FX?|BFSX?", order) is None:
        found = ", ".join(str(s.get("type")) if isinstance(s, dict) else repr(s) for s in steps)
        raise UnsupportedRequest(
            f"tokenizer.json: decoder [{found}] is not supported; expected ByteLevel, or "
            "Metaspace, or ByteFallback, Replace (U+2581 by space), Fuse, and perhaps a last step "
            "that strips one leading space"
        )
    return DecodingRules(
        byte_fallback="B" in order,
        spells_spaces=True,
        spells_spaces_in_bytes=0 <= order.find("B") < order.find("S"),
        strips_space="X" in order,
    )


_ABBREVIATIONS = {"ByteLevel": "L", "ByteFallback": "B", "Fuse": "F"}


def _abbreviate_step(step: Any) -> str:
    """Return a letter for a step of the decoder; `?` for one that we do not know."""
    match step:
        case {"type": "ByteLevel" | "ByteFallback" | "Fuse" as kind}:
            return _ABBREVIATIONS[kind]
        case {"type": "Metaspace", "replacement": "\u2581"}:
            return "m" if _keeps_first_space(step) else "M"
        case {
            "type": "Replace",
            "pattern": {"String": "\u2581"} | {"Regex": "\u2581"},
            "content": " ",
        }:
            return "S"
        # `^` matches at every line for the library, hence the look-behind.
        case {"type": "Replace", "pattern": {"Regex": r"(?<!\n)^ " | r"\A "}, "content": ""} | {
            "type": "Strip",
            "content": " ",
            "start": 1,
            "stop": 0,
        }:
            return "X"
        case _:
            return "?"


def _keeps_first_space(metaspace: Mapping[str, Any]) -> bool:
    """Return whether the step has no dummy prefix to take away; two spellings, old and new."""
    scheme = metaspace.get("prepend_scheme")
    return scheme == "never" or (scheme is None and metaspace.get("add_prefix_space") is False)


def list_steps(part: Any, key: str) -> list[Any]:
    """Return the steps of a Sequence; a lone step is a sequence of one, null an empty one."""
    match part:
        case None:
            return []
        case {"type": "Sequence"}:
            steps = part.get(key)
            return steps if isinstance(steps, list) else []
        case _:
            return [part]
