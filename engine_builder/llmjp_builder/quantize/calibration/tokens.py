"""Token ids of the passages, from the checkpoint's own tokenizer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import BadConfig, BadTexts
from llmjp_builder.contracts.spec import to_canonical_json
from llmjp_builder.store.files import get_regular_file_size
from llmjp_builder.tokenizer import find_tokenizer_files

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from llmjp_builder.convert.model_config import ModelConfig

TOKENIZER = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class Tokens:
    """The token ids of every text, none empty."""

    texts: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return sum(map(len, self.texts))

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return max(map(len, self.texts))

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Begin and end of each text when all are concatenated."""
        return tuple(pairwise(accumulate(map(len, self.texts), initial=0)))

    @property
    def digest(self) -> str:
        """SHA-256 of all ids."""
        return hashlib.sha256(to_canonical_json(self.texts).encode()).hexdigest()


def tokenise(folder: Path, config: ModelConfig, passages: Iterable[str], limit: int) -> Tokens:
    """Tokenise the passages with the tokenizer in `folder`, special tokens included.

    Args:
        folder: of the checkpoint.
        config: of the model: every id must be below its vocabulary's size.
        passages: the texts.
        limit: tokens of a passage beyond it are left out.

    Raises:
        MissingFile: the checkpoint has no tokenizer.
        BadConfig: the tokenizer is damaged, or not this model's.
        BadTexts: no passage has a token.
    """
    from tokenizers import Tokenizer

    find_tokenizer_files(folder, config.vocab_size)
    path = folder / TOKENIZER
    get_regular_file_size(path)
    try:
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        tokenizer.enable_truncation(limit)
        encoded = [tuple(tokenizer.encode(passage).ids) for passage in passages]
    except Exception as exc:  # the library raises nothing more specific
        raise BadConfig(f"{path}: the tokenizers library cannot use it: {exc}") from exc
    texts = tuple(ids for ids in encoded if ids)
    if not texts:
        raise BadTexts(f"{path}: the calibration texts have no tokens")
    return Tokens(texts)
