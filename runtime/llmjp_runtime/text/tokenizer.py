"""A checkpoint's tokenizer: text to prompt ids, and ids back to text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmjp_builder.contracts.judgement.decoding import SPACE, parse_decoding_rules
from llmjp_runtime.text.added_tokens import (
    AddedTokens,
    encode_freely,
    load_parsing_tokenizer,
)
from llmjp_runtime.text.detokenizer import Detokenizer
from llmjp_runtime.text.errors import NoChatTemplate, UnusableTokenizer
from llmjp_runtime.text.pieces import build_pieces
from llmjp_runtime.text.pipeline import never_shortens
from llmjp_runtime.text.template import ChatTemplate
from llmjp_runtime.text.tokenizer_files import read_tokenizer_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

    from llmjp_builder.contracts.judgement.decoding import DecodingRules
    from llmjp_builder.contracts.judgement.tokenizer_files import TokenizerFiles
    from llmjp_runtime.text.messages import Message
    from llmjp_runtime.text.template import PromptPart


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextTokenizer:
    """Immutable and thread-safe; one serves all requests.

    Ids of the prompt are those of transformers: `tokenizer(text)` for a raw prompt,
    `apply_chat_template(tokenize=True)` for messages that hold no control tokens. The tokenizers
    library makes them, from the checkpoint's own files.
    """

    bos_id: int | None
    eos_ids: frozenset[int]
    """Ids that end a reply: generation_config.json's, else the tokenizer's own; may be empty."""
    pad_id: int | None
    num_entries: int
    """Entries of the tokenizer; the model's vocabulary may have more rows, which have no text."""
    chat_template: ChatTemplate | None
    pieces: tuple[bytes, ...]
    """By id: what it adds to a text; empty for special tokens."""

    _parsing: Tokenizer
    """Control tokens written in a text become their ids."""
    _added: AddedTokens
    _rules: DecodingRules
    _puts_bos_first: bool
    _longest_piece: int
    """In characters; 0 where pieces bound nothing (`never_shortens`)."""

    @property
    def longest_piece(self) -> int:
        """Characters that a token stands for at most; 0 where nothing is known."""
        return self._longest_piece

    @classmethod
    def load(cls, folder: Path) -> TextTokenizer:
        """Load the tokenizer in `folder`: tokenizer.json and the files beside it.

        Raises:
            UnusableTokenizer: a file is missing, damaged, or names a token that is not there.
            UnsupportedTokenizer: its decoder or its control tokens work in a way we do not know.
        """
        files = read_tokenizer_files(folder)
        rules = parse_decoding_rules(files.pipeline)
        parsing = load_parsing_tokenizer(files)
        vocabulary = parsing.get_vocab(with_added_tokens=True)
        added = AddedTokens(parsing, files.pipeline, rules)
        named = {name: _find_id(vocabulary, name, t) for name, t in files.named_tokens.items()}
        eos_ids = files.generation_eos or [i for n, i in named.items() if n == "eos_token"]
        bos_id = named.get("bos_token")
        bounded = never_shortens(files.pipeline) and not added.swallow_spaces
        return cls(
            bos_id=bos_id,
            eos_ids=frozenset(eos_ids),
            pad_id=named.get("pad_token"),
            num_entries=len(vocabulary),
            chat_template=_build_chat_template(files, added),
            pieces=build_pieces(added.spell_ids(vocabulary), added.special_ids, rules),
            _parsing=parsing,
            _added=added,
            _rules=rules,
            _puts_bos_first=bos_id is not None and parsing.encode("").ids[:1] == [bos_id],
            _longest_piece=max(map(len, vocabulary)) if bounded else 0,
        )

    def create_detokenizer(
        self, prompt_ids: Iterable[int] = (), marks: Mapping[int, str] | None = None
    ) -> Detokenizer:
        """Create a fresh detokenizer, for the one reply that continues these ids."""
        detokenizer = Detokenizer(self.pieces, self._rules, marks)
        detokenizer.feed(prompt_ids)
        return detokenizer

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of all these ids, as a text of its own."""
        return self.create_detokenizer().feed(ids)

    def spell(self, token_id: int) -> str:
        """Return an id's text; U+FFFD for bytes that are no whole character, none for special ids.

        Ids beyond the tokenizer have none either.
        """
        piece = self.pieces[token_id] if token_id < len(self.pieces) else b""
        text = piece.decode(errors="replace")
        return text.replace(SPACE, " ") if self._rules.spells_spaces else text

    def encode_prompt(self, text: str) -> list[int]:
        """Encode a raw prompt as transformers and NVIDIA's preprocessing do.

        Control tokens written in it are parsed; what the files put around a text (bos, for most) is
        put there, but no second bos before one that is written.
        """
        ids: list[int] = encode_freely(self._parsing, text, add_special_tokens=True).ids
        if self._puts_bos_first and ids[1:2] == [self.bos_id]:
            return ids[1:]
        return ids

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

    def mark_special_tokens(self, words: Iterable[str]) -> tuple[list[str], dict[int, str]]:
        """Return the words that hold special tokens, with marks for them, and the marks by id.

        Special tokens have no text: stop strings find them in a reply by their marks only, so give
        both to `StopMatcher` and `create_detokenizer`.

        Raises:
            InvalidStops: more special tokens than there are marks.
        """
        marks: dict[int, str] = {}
        marked = [(word, self._added.put_marks(word, marks)) for word in words]
        return [new for word, new in marked if new != word], marks

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Encode a conversation up to the reply; control tokens in contents stay text.

        As in transformers nothing is put around the template's text, and with llm-jp's files text
        after a control token starts anew, with U+2581 in front: in conversations of many turns that
        gives one id more per `</s>` than the training data of llm-jp-3 had.

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
        return self._encode_parts(self.chat_template.render_parts(messages))

    def estimate_min_tokens(self, text: str) -> int:
        """Return a lower bound of the tokens of `text`, without tokenising it.

        For refusing what cannot fit: tokenising a megabyte takes half a second.

        Each token stands for at most as many characters as the longest piece has. 0 where nothing
        is known.
        """
        return -(-len(text) // self._longest_piece) if self._longest_piece else 0

    def _parse(self, text: str) -> list[int]:
        ids: list[int] = self._parsing.encode(text, add_special_tokens=False).ids
        return ids

    def _encode_parts(self, parts: Sequence[PromptPart]) -> list[int]:
        text = "".join(part.text for part in parts)
        encoding = encode_freely(self._parsing, text)
        if self._added.stay_outside(encoding, parts):
            ids: list[int] = encoding.ids
            return ids
        return self._added.encode_literally(parts)


def _find_id(vocabulary: Mapping[str, int], name: str, token: str) -> int:
    if token not in vocabulary:
        raise UnusableTokenizer(f"tokenizer_config.json: {name} {token!r} is not in tokenizer.json")
    return vocabulary[token]


def _build_chat_template(files: TokenizerFiles, added: AddedTokens) -> ChatTemplate | None:
    if files.chat_template is None:
        return None
    return ChatTemplate(files.chat_template, files.named_tokens, added.find_control)
