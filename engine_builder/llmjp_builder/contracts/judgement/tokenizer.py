"""Judgement of a tokenizer's files: whether text can be served with them. Pure.

What the tokenizers library alone can tell (a broken regular expression, say) is not judged here;
`llmjp_builder.tokenizer` asks it where it is installed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from llmjp_builder.contracts.errors import BadConfig, UnsupportedRequest
from llmjp_builder.contracts.judgement.decoding import parse_decoding_rules
from llmjp_builder.contracts.judgement.template import require_served_template
from llmjp_builder.contracts.judgement.tokenizer_files import CONFIG, PIPELINE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmjp_builder.contracts.judgement.tokenizer_files import Object, TokenizerFiles

BYTE_PIECE = re.compile("<0x([0-9A-F]{2})>")
"""A byte token of byte fallback."""


def require_served_tokenizer(files: TokenizerFiles, where: str, vocab_size: int | None) -> None:
    """Raise where the server would refuse the tokenizer, or the model has no rows for its ids.

    Code that `auto_map` names is not executed: tokenizer.json is used instead, where the other
    files say the same of its tokens.

    Args:
        files: of the tokenizer.
        where: their folder or repository, for messages.
        vocab_size: of the model; None where it is not known.

    Raises:
        UnsupportedRequest: a kind of tokenizer or template that is not served.
        BadConfig: the files contradict each other or the model.
    """
    vocabulary = list_vocabulary(files, where)
    largest = max(vocabulary.values())
    if vocab_size is not None and largest >= vocab_size:
        raise BadConfig(
            f"{where}/{PIPELINE}: token id {largest} is beyond the model's vocabulary "
            f"of {vocab_size}; tokenizer and weights do not belong together"
        )
    try:
        rules = parse_decoding_rules(files.pipeline)
    except UnsupportedRequest as exc:
        raise UnsupportedRequest(f"{where}/{exc}") from exc
    if rules.byte_fallback:
        _require_byte_tokens(vocabulary, where)
    for name, token in files.named_tokens.items():
        if token not in vocabulary:
            raise BadConfig(f"{where}/{CONFIG}: {name} {token!r} is not in {PIPELINE}")
    if files.chat_template is not None:
        require_served_template(files.chat_template, where)


def _require_byte_tokens(vocabulary: Mapping[str, int], where: str) -> None:
    found = sum(1 for piece in vocabulary if BYTE_PIECE.fullmatch(piece))
    if found < 256:
        raise UnsupportedRequest(
            f"{where}/{PIPELINE}: {found} of 256 byte tokens (<0x00> to <0xFF>) are there; "
            "byte fallback needs all"
        )


def list_vocabulary(files: TokenizerFiles, where: str) -> dict[str, int]:
    """List all tokens with their ids, added ones as the tokenizers library numbers them.

    Raises:
        BadConfig: there is no vocabulary, or the files give a token different ids.
    """
    vocabulary = _list_pieces(files.pipeline, where)
    size = len(vocabulary)
    highest = -1
    for content in _list_added_tokens(files.pipeline, where):
        highest = max(highest, vocabulary.setdefault(content, max(size, highest + 1)))
    for token_id, token in sorted(files.declared_tokens.items()):
        found = vocabulary.setdefault(token["content"], max(size, highest + 1))
        highest = max(highest, found)
        if found != token_id:
            own = "" if files.own_code is None else f", and its code {files.own_code} is not run"
            raise BadConfig(
                f"{where}/{CONFIG}: added_tokens_decoder has {token['content']!r} as {token_id}, "
                f"{PIPELINE} makes it {found}{own}"
            )
    return vocabulary


def _list_pieces(pipeline: Object, where: str) -> dict[str, int]:
    match pipeline.get("model"):
        case {"vocab": list(pieces)} if pieces and all(map(_is_scored, pieces)):
            return {piece: index for index, (piece, _) in enumerate(pieces)}
        case {"vocab": dict(tokens)} if tokens and all(map(_is_id, tokens.values())):
            return dict(tokens)
        case _:
            raise BadConfig(f"{where}/{PIPELINE}: not a tokenizer: it has no vocabulary")


def _is_scored(piece: Any) -> bool:
    match piece:
        case [str(), int() | float()]:
            return True
        case _:
            return False


def _is_id(value: Any) -> bool:
    return type(value) is int and value >= 0


def _list_added_tokens(pipeline: Object, where: str) -> list[str]:
    """List the texts of the tokens that tokenizer.json adds; their order numbers them."""
    added = pipeline.get("added_tokens") or []
    match added:
        case list() if all(
            isinstance(token, dict)
            and isinstance(token.get("content"), str)
            and _is_id(token.get("id"))
            for token in added
        ):
            return [token["content"] for token in added]
        case _:
            raise BadConfig(
                f"{where}/{PIPELINE}: added_tokens must list objects with id and content"
            )
