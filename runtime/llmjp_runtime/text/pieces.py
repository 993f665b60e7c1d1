"""The bytes that each id adds to a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_builder.contracts.judgement.decoding import SPACE
from llmjp_builder.contracts.judgement.tokenizer import BYTE_PIECE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from llmjp_builder.contracts.judgement.decoding import DecodingRules


def _build_byte_alphabet() -> dict[str, int]:
    """Return the byte of each character of GPT-2's alphabet.

    Printable Latin-1 stands for itself, the other 68 bytes are U+0100 onwards.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(printable))
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + index): byte for index, byte in enumerate(others)
    }


_BYTE_OF_CHARACTER = _build_byte_alphabet()
_CHARACTER_OF_BYTE = {byte: character for character, byte in _BYTE_OF_CHARACTER.items()}


def build_pieces(
    vocabulary: Mapping[int, str], textless: Collection[int], rules: DecodingRules
) -> tuple[bytes, ...]:
    """Return the bytes of every id; none for `textless` ids and for those without an entry.

    Byte tokens are known by their spelling, so no numbering is assumed.
    """
    pieces = [b""] * (max(vocabulary, default=-1) + 1)
    for token_id, piece in vocabulary.items():
        byte = BYTE_PIECE.fullmatch(piece) if rules.byte_fallback else None
        if byte:
            pieces[token_id] = bytes.fromhex(byte[1])
        elif token_id not in textless:
            pieces[token_id] = _convert_piece(piece, rules)
    return tuple(pieces)


def _convert_piece(piece: str, rules: DecodingRules) -> bytes:
    if rules.byte_level:
        try:
            return bytes(_BYTE_OF_CHARACTER[character] for character in piece)
        except KeyError:  # an added token is spelled as it is
            return piece.encode()
    if rules.spells_spaces and not (rules.spells_spaces_in_bytes or rules.strips_first_piece):
        return piece.replace(SPACE, " ").encode()
    return piece.encode()  # the detokenizer puts the spaces


def spell(
    text: str, vocabulary: Mapping[str, int], avoid: Collection[int], rules: DecodingRules
) -> tuple[int, ...]:
    """Return the ids of a text's characters one by one, none of them in `avoid`.

    Characters and bytes that the vocabulary has no entry for are left out.
    """
    ids: list[int | None] = []
    for character in text.replace(" ", SPACE) if rules.spells_spaces else text:
        whole = None if rules.byte_level else vocabulary.get(character)
        if whole is not None and whole not in avoid:
            ids.append(whole)
            continue
        for byte in character.encode():
            name = _CHARACTER_OF_BYTE[byte] if rules.byte_level else f"<0x{byte:02X}>"
            ids.append(vocabulary.get(name))
    return tuple(i for i in ids if i is not None)
