"""Added tokens, such as `<s>` and `<|eot_id|>`: control tokens where a template writes them.

Written in a message they are plain text. The library knows only one setting for a whole text, so
such a conversation is encoded by a second tokenizer, for which added tokens are plain text and an
alias of each is not: the template's own are replaced by their aliases before, and the aliases' ids
by theirs afterwards.
"""

from __future__ import annotations

import json
import re
import secrets
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Tokenizer

from llmjp_runtime.text.errors import InvalidStops, UnusableTokenizer
from llmjp_runtime.text.pieces import spell
from llmjp_runtime.text.stop_strings import MARKS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tokenizers import Encoding

    from llmjp_builder.contracts.judgement.decoding import DecodingRules
    from llmjp_builder.contracts.judgement.tokenizer_files import Object, TokenizerFiles
    from llmjp_runtime.text.template import PromptPart

_FLAGS = ("lstrip", "rstrip", "normalized", "single_word")


def load_parsing_tokenizer(files: TokenizerFiles) -> Tokenizer:
    """Load the tokenizer as transformers does: with the added tokens that other files declare.

    Without the truncation and padding that the file may ask for.

    Raises:
        UnusableTokenizer: the library cannot read it, or the files give a token different ids.
    """
    tokenizer = _load_tokenizer(files.pipeline)
    known = {repr(token) for token in tokenizer.get_added_tokens_decoder().values()}
    declared = {i: AddedToken(**_pick_flags(t)) for i, t in sorted(files.declared_tokens.items())}
    tokenizer.add_tokens([token for token in declared.values() if repr(token) not in known])
    for token_id, token in declared.items():
        found = tokenizer.token_to_id(token.content)
        if found != token_id:
            raise UnusableTokenizer(
                f"tokenizer_config.json: added_tokens_decoder has {token.content!r} as {token_id}, "
                f"tokenizer.json makes it {found}"
            )
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    special = dict.fromkeys((*files.named_tokens.values(), *files.extra_tokens))
    # One that the vocabulary does not have would get an id that no model has learned.
    missing = [t for t in special if t not in added and tokenizer.token_to_id(t) is not None]
    tokenizer.add_tokens([AddedToken(token, special=True) for token in missing])
    return tokenizer


def _load_tokenizer(pipeline: Object) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(json.dumps(pipeline))
    except Exception as exc:  # the library raises nothing more precise
        raise UnusableTokenizer(f"tokenizer.json: not a tokenizer ({exc})") from exc
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _pick_flags(token: Object) -> Object:
    return {k: v for k, v in token.items() if k in {"content", "special", *_FLAGS}}


def encode_freely(tokenizer: Tokenizer, text: str, *, add_special_tokens: bool = False) -> Encoding:
    """Encode one text while other threads run: the library's `encode` holds them all up."""
    (encoding,) = tokenizer.encode_batch([text], add_special_tokens=add_special_tokens)
    return encoding


class AddedTokens:
    """The added tokens of one tokenizer. Thread-safe."""

    def __init__(self, parsing: Tokenizer, pipeline: Object, rules: DecodingRules) -> None:
        """Take the tokenizer that parses them; `pipeline` is its tokenizer.json."""
        self._parsing = parsing
        self._tokens = dict(parsing.get_added_tokens_decoder())
        self.special_ids = frozenset(i for i, token in self._tokens.items() if token.special)
        """Those without text. The others, such as `<think>`, have text and count in a chat."""
        self._special = {self._tokens[i].content: i for i in self.special_ids}
        longest_first = sorted(self._special, key=len, reverse=True)
        self._special_pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self.swallow_spaces = any(t.lstrip or t.rstrip for t in self._tokens.values())
        # Nobody can write an alias that is chosen anew whenever the tokenizer is loaded.
        secret = secrets.token_hex(8)
        self._aliases = {i: f"\U000f0000{secret}{i:x}\U000f0001" for i in self._tokens}
        self._literal, self._own_id = self._load_literal_tokenizer(pipeline)
        vocabulary = parsing.get_vocab(with_added_tokens=True)
        self._spelling = {
            i: spell(token.content, vocabulary, self._tokens, rules)
            for i, token in self._tokens.items()
        }

    def _load_literal_tokenizer(self, pipeline: Object) -> tuple[Tokenizer, dict[int, int]]:
        """Return the second tokenizer, and the id behind each alias's."""
        plain = [
            {"id": i, "content": t.content, "special": True} | {f: getattr(t, f) for f in _FLAGS}
            for i, t in self._tokens.items()
        ]
        literal = _load_tokenizer(pipeline | {"added_tokens": plain})
        literal.encode_special_tokens = True
        literal.add_tokens(
            [
                AddedToken(
                    self._aliases[i],
                    lstrip=token.lstrip,
                    rstrip=token.rstrip,
                    normalized=token.normalized,
                    special=False,
                )
                for i, token in self._tokens.items()
            ]
        )
        vocabulary = literal.get_vocab(with_added_tokens=True)
        return literal, {vocabulary[alias]: i for i, alias in self._aliases.items()}

    def spell_ids(self, vocabulary: Mapping[str, int]) -> dict[int, str]:
        """Return the vocabulary by id; a normalised added token is spelled as in a text."""
        spelled = {i: piece for piece, i in vocabulary.items()}
        return spelled | {i: self._parsing.id_to_token(i) or "" for i in self._tokens}

    def find_control(self, text: str) -> list[tuple[int, int, int]]:
        """Return (id, begin, end) of every added token in a text, without spaces it swallows."""
        encoding = encode_freely(self._parsing, text)
        return list(self._find_tokens(encoding, text))

    def stay_outside(self, encoding: Encoding, parts: Sequence[PromptPart]) -> bool:
        """Return whether no added token stands in a literal part, or reaches into one.

        Args:
            encoding: of all parts together, by the tokenizer that parses added tokens.
            parts: of the prompt.
        """
        text = "".join(part.text for part in parts)
        literal = b"".join((b"\1" if part.literal else b"\0") * len(part.text) for part in parts)
        return not any(any(literal[a:b]) for _, a, b in self._find_tokens(encoding, text))

    def encode_literally(self, parts: Sequence[PromptPart]) -> list[int]:
        """Encode parts of which the literal ones hold added tokens.

        The pieces of control tokens are part of a Unigram model like any other, so a model that
        gives them good scores finds them in plain text; they are then spelled out.
        """
        text = "".join(
            part.text if part.literal else self._put_aliases(part.text) for part in parts
        )
        encoding = encode_freely(self._literal, text)
        ids: list[int] = []
        for token_id, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if token_id in self._own_id:
                ids.append(self._own_id[token_id])
            elif self._is_written(token_id, text[begin:end]):
                ids += self._spelling[token_id]
            else:
                ids.append(token_id)
        return ids

    def put_marks(self, text: str, marks: dict[int, str]) -> str:
        """Return the text with a mark for each special token in it; new ones join `marks`.

        Raises:
            InvalidStops: there are no more marks.
        """

        def choose_mark(found: re.Match[str]) -> str:
            token_id = self._special[found[0]]
            if len(marks) == len(MARKS) and token_id not in marks:
                raise InvalidStops(f"stop_words: more than {len(MARKS)} special tokens")
            return marks.setdefault(token_id, chr(MARKS[0] + len(marks)))

        return self._special_pattern.sub(choose_mark, text)

    def _put_aliases(self, text: str) -> str:
        result, done = [], 0
        for token_id, begin, end in self.find_control(text):
            result += [text[done:begin], self._aliases[token_id]]
            done = end
        return "".join([*result, text[done:]])

    def _find_tokens(self, encoding: Encoding, text: str) -> Iterator[tuple[int, int, int]]:
        """Yield (id, begin, end) of every added token, without the spaces that it swallows."""
        for token_id, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if self._is_written(token_id, text[begin:end]):
                content = self._tokens[token_id].content
                core = text.find(content, begin, end)
                yield token_id, *((core, core + len(content)) if core >= 0 else (begin, end))

    def _is_written(self, token_id: int, text: str) -> bool:
        """Return whether the id is an added token's and stands for it, not for what is unknown."""
        token = self._tokens.get(token_id)
        return token is not None and (token.normalized or token.content in text)
