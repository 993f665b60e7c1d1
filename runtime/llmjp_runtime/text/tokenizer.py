"""A checkpoint's tokenizer: text to prompt ids, and the pieces to turn ids back into text."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Tokenizer

from llmjp_runtime.text.detokenizer import Detokenizer
from llmjp_runtime.text.errors import (
    NoChatTemplate,
    UnsupportedTokenizer,
    UnusableTokenizer,
)
from llmjp_runtime.text.pipeline import SPACE, never_shortens, strips_leading_space
from llmjp_runtime.text.template import ChatTemplate
from llmjp_runtime.text.tokenizer_files import read_tokenizer_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from llmjp_runtime.text.messages import Message
    from llmjp_runtime.text.template import PromptPart
    from llmjp_runtime.text.tokenizer_files import Object, TokenizerFiles

_BYTE_PIECE = re.compile("<0x([0-9A-F]{2})>")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextTokenizer:
    """Immutable and thread-safe; one serves all requests.

    Ids of the prompt are those of transformers: `tokenizer(text)` for a raw prompt,
    `apply_chat_template(tokenize=True)` for messages that hold no control tokens.
    """

    bos_id: int | None
    eos_ids: frozenset[int]
    """Ids that end a reply: generation_config.json's, else the tokenizer's own; may be empty."""
    pad_id: int | None
    num_entries: int
    """Entries of the tokenizer; the model's vocabulary may have more rows, which have no text."""
    chat_template: ChatTemplate | None
    pieces: tuple[bytes, ...]
    """By id: what it adds to a reply, U+2581 still for a space; empty for control tokens."""

    _parsing: Tokenizer
    """Control tokens written in a text become their ids."""
    _literal: Tokenizer
    """They stay text. (A setting of the object as a whole, hence two objects.)"""
    _control: re.Pattern[str]
    _control_ids: Mapping[str, int]
    _spelling: Mapping[int, tuple[int, ...]]
    """By id of a control token: the ids of its characters."""
    _puts_bos_first: bool
    _strips_leading_space: bool
    _longest_piece: int
    """In characters; 0 where pieces bound nothing (`never_shortens`)."""

    @classmethod
    def load(cls, folder: Path) -> TextTokenizer:
        """Load the tokenizer in `folder`: tokenizer.json and the files beside it.

        Raises:
            UnusableTokenizer: a file is missing, damaged, or names a token that is not there.
            UnsupportedTokenizer: its decoder or its control tokens work in a way we do not know.
        """
        files = read_tokenizer_files(folder)
        strips = strips_leading_space(files.pipeline)
        parsing, literal = _load_tokenizers(files)
        vocabulary = parsing.get_vocab(with_added_tokens=True)
        control_ids = {t.content: i for i, t in parsing.get_added_tokens_decoder().items()}
        control = _build_control_pattern(control_ids)
        pieces = _build_pieces(vocabulary, parsing)
        named = {name: _find_id(vocabulary, name, t) for name, t in files.named_tokens.items()}
        eos_ids = files.generation_eos or [i for n, i in named.items() if n == "eos_token"]
        return cls(
            bos_id=named.get("bos_token"),
            eos_ids=frozenset(eos_ids),
            pad_id=named.get("pad_token"),
            num_entries=len(vocabulary),
            chat_template=_build_chat_template(files, control),
            pieces=pieces,
            _parsing=parsing,
            _literal=literal,
            _control=control,
            _control_ids=control_ids,
            _spelling={i: _spell(t, vocabulary, control_ids) for t, i in control_ids.items()},
            _puts_bos_first=files.puts_bos_first,
            _strips_leading_space=strips,
            _longest_piece=max(map(len, vocabulary)) if never_shortens(files.pipeline) else 0,
        )

    def create_detokenizer(self) -> Detokenizer:
        """Create a fresh detokenizer, for one reply."""
        return Detokenizer(self.pieces, strip_leading_space=self._strips_leading_space)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of all these ids, as a reply of its own."""
        return self.create_detokenizer().feed(ids)

    def encode_prompt(self, text: str) -> list[int]:
        """Encode a raw prompt, as NVIDIA's preprocessing does.

        Control tokens written in it are parsed; bos is put first unless it is there.
        """
        return self._with_bos(self._parse(text))

    def encode_word(self, word: str) -> tuple[tuple[int, ...], ...]:
        """Return a word's spellings, for bans and biases: opening a text, and within one.

        Control tokens are parsed: the word `</s>` is the end id. Other cuts of the word into pieces
        exist, which a model chooses rarely.
        """
        opening = self._parse(word)
        newline = self._parse("\n")
        after_newline = self._parse("\n" + word)
        spellings = [opening]
        if after_newline[: len(newline)] == newline:
            spellings.append(after_newline[len(newline) :])
        return tuple(dict.fromkeys(tuple(ids) for ids in spellings if ids))

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Encode a conversation up to the reply; control tokens in contents stay text.

        As in transformers, text after a control token starts anew, with U+2581 in front: in
        conversations of many turns that gives one id more per `</s>` than the training data of
        llm-jp-3 had.

        Args:
            messages: as `parse_messages` leaves them, so at least one.

        Raises:
            NoChatTemplate: the checkpoint has none.
            InvalidMessages: the template refuses them.
        """
        if self.chat_template is None:
            raise NoChatTemplate(
                "this checkpoint has no chat template: send text_input, not messages"
            )
        ids: list[int] = []
        for run in self._split_runs(self.chat_template.render_parts(messages)):
            ids += [run] if isinstance(run, int) else self._encode_literally(run)
        return self._with_bos(ids)

    def estimate_min_tokens(self, text: str) -> int:
        """Return a lower bound of the tokens of `text`, without tokenising it.

        For refusing what cannot fit: tokenising a megabyte takes half a second, part of it with all
        threads stopped.

        Each token stands for at most as many characters as the longest piece has. 0 where nothing
        is known.
        """
        return -(-len(text) // self._longest_piece) if self._longest_piece else 0

    def _parse(self, text: str) -> list[int]:
        ids: list[int] = self._parsing.encode(text, add_special_tokens=False).ids
        return ids

    def _with_bos(self, ids: list[int]) -> list[int]:
        if self.bos_id is None or not self._puts_bos_first or ids[:1] == [self.bos_id]:
            return ids
        return [self.bos_id, *ids]

    def _split_runs(self, parts: Iterable[PromptPart]) -> list[str | int]:
        """Return runs of plain text, across parts, and the template's control ids between them."""
        runs: list[str | int] = []
        text = ""
        for part in parts:
            for index, piece in enumerate(
                [part.text] if part.literal else self._control.split(part.text)
            ):
                if index % 2 == 0:
                    text += piece
                else:
                    runs += [text, self._control_ids[piece]]
                    text = ""
        return [run for run in (*runs, text) if run != ""]

    def _encode_literally(self, text: str) -> list[int]:
        """Encode without control ids.

        The pieces of control tokens are part of a Unigram model like any other, so a model that
        gives them good scores finds them in plain text; they are then spelled out.
        """
        ids: list[int] = self._literal.encode(text, add_special_tokens=False).ids
        if self._spelling.keys().isdisjoint(ids):
            return ids
        return [part for i in ids for part in self._spelling.get(i, (i,))]


def _load_tokenizers(files: TokenizerFiles) -> tuple[Tokenizer, Tokenizer]:
    """Load (parsing, literal), without the truncation and padding that the file may ask for."""
    parsing = _load_tokenizer(files.pipeline)
    known = {token.content for token in parsing.get_added_tokens_decoder().values()}
    named = {t for t in files.named_tokens.values() if parsing.token_to_id(t) is not None} - known
    parsing.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in named])
    added = []
    for token_id, token in parsing.get_added_tokens_decoder().items():
        flags = {f: getattr(token, f) for f in ("lstrip", "rstrip", "single_word", "normalized")}
        if any(flags.values()):
            raise UnsupportedTokenizer(
                f"tokenizer.json: added token {token.content!r} has one of {', '.join(flags)}, "
                "which is not supported"
            )
        # Also those that are not special, such as <think>, are control tokens in a chat.
        added.append({"id": token_id, "content": token.content, "special": True, **flags})
    literal = _load_tokenizer(files.pipeline | {"added_tokens": added})
    literal.encode_special_tokens = True
    return parsing, literal


def _load_tokenizer(pipeline: Object) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(json.dumps(pipeline))
    except Exception as exc:  # the library raises nothing more precise
        raise UnusableTokenizer(f"tokenizer.json: not a tokenizer ({exc})") from exc
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _build_control_pattern(tokens: Iterable[str]) -> re.Pattern[str]:
    """Build a pattern of control tokens: leftmost, then longest, as in the library; one group."""
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("(" + ("|".join(map(re.escape, longest_first)) or r"(?!)") + ")")


def _spell(
    token: str, vocabulary: Mapping[str, int], control_ids: Mapping[str, int]
) -> tuple[int, ...]:
    ids: list[int] = []
    for character in token.replace(" ", SPACE):
        if character in vocabulary and character not in control_ids:
            ids.append(vocabulary[character])
        else:
            ids += [vocabulary[f"<0x{byte:02X}>"] for byte in character.encode()]
    return tuple(ids)


def _find_id(vocabulary: Mapping[str, int], name: str, token: str) -> int:
    if token not in vocabulary:
        raise UnusableTokenizer(f"tokenizer_config.json: {name} {token!r} is not in tokenizer.json")
    return vocabulary[token]


def _build_chat_template(files: TokenizerFiles, control: re.Pattern[str]) -> ChatTemplate | None:
    if files.chat_template is None:
        return None
    return ChatTemplate(files.chat_template, files.named_tokens, control)


def _build_pieces(vocabulary: Mapping[str, int], tokenizer: Tokenizer) -> tuple[bytes, ...]:
    """Return pieces by id; byte tokens are known by spelling, so no numbering is assumed."""
    special = {i for i, t in tokenizer.get_added_tokens_decoder().items() if t.special}
    pieces = [b""] * (max(vocabulary.values(), default=-1) + 1)
    found = set()
    for piece, token_id in vocabulary.items():
        byte = _BYTE_PIECE.fullmatch(piece)
        if byte:
            pieces[token_id] = bytes.fromhex(byte[1])
            found.add(pieces[token_id])
        elif token_id not in special:
            pieces[token_id] = piece.encode()
    if len(found) < 256:
        raise UnsupportedTokenizer(
            f"tokenizer.json: {len(found)} of 256 byte tokens (<0x00> to <0xFF>) are there; "
            "byte fallback needs all"
        )
    return tuple(pieces)
