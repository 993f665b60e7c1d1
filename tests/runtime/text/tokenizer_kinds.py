"""Small tokenizers of the kinds that checkpoints come with, made by the library itself."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, Unigram
from tokenizers.processors import ByteLevel, Sequence, TemplateProcessing
from tokenizers.trainers import BpeTrainer

from tests.runtime.text.corpus import ENGLISH, JAPANESE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Object = dict[str, Any]

WORDS = (
    *(
        "▁",
        "▁▁",
        "▁▁▁▁",
        "the",
        "▁the",
        "▁sea",
        "sea",
        "▁I",
        "▁like",
        "return",
        "▁return",
        "def",
        "x",
    ),
    *(
        "東京",
        "▁東京",
        "日本",
        "です",
        "▁です",
        "。",
        "、",
        "の",
        "に",
        "は",
        "い",
        "か",
        "が",
        "ん",
    ),
    *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?<>/|_-()[]{}=+*:;'\"",
)
SPECIAL = ("<unk>", "<s>", "</s>")
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
FLAGGED = (
    AddedToken("<left>", lstrip=True, special=True),
    AddedToken("<right>", rstrip=True, special=True),
    AddedToken("<both>", lstrip=True, rstrip=True, special=False, normalized=False),
    AddedToken("<word>", single_word=True, special=False, normalized=False),
    AddedToken("<norm>", normalized=True, special=False),
    AddedToken("<think>", special=False, normalized=False),
)
"""One of each flag; the last three have text."""


def _build_unigram(*, dummy_prefix: bool) -> Tokenizer:
    """SentencePiece's Unigram with byte fallback, as Llama 2's converter writes its pipeline."""
    vocab = [(token, 0.0) for token in SPECIAL]
    vocab += [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    vocab += [(word, -float(12 - len(word))) for word in dict.fromkeys(WORDS)]
    tokenizer = Tokenizer(Unigram(vocab, unk_id=0, byte_fallback=True))
    spaces = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = (
        normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if dummy_prefix else spaces
    )
    steps: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(
        [*steps, decoders.Strip(" ", 1, 0)] if dummy_prefix else steps
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    _put_first(tokenizer, "<s>")
    return tokenizer


def build_unigram_with_prefix() -> Tokenizer:
    return _build_unigram(dummy_prefix=True)


def build_unigram_without_prefix() -> Tokenizer:
    return _build_unigram(dummy_prefix=False)


def build_without_bos() -> Tokenizer:
    """The same, whose files put nothing around a text."""
    tokenizer = _build_unigram(dummy_prefix=True)
    tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    return tokenizer


def build_llm_jp_order() -> Tokenizer:
    """Bytes before spaces, as llm-jp's converter writes its decoder."""
    tokenizer = _build_unigram(dummy_prefix=True)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.ByteFallback(),
            decoders.Replace("▁", " "),
            decoders.Fuse(),
            decoders.Replace(Regex(r"(?<!\n)^ "), ""),
        ]
    )
    return tokenizer


def build_llama2() -> Tokenizer:
    """SentencePiece's BPE with byte fallback, as Llama 2 and Mistral have it."""
    trained = Tokenizer(BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trainer = BpeTrainer(vocab_size=900, special_tokens=list(SPECIAL), show_progress=False)
    trained.train_from_iterator((*JAPANESE, *ENGLISH), trainer)
    model = json.loads(trained.to_str())["model"]
    names = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *model["vocab"]]
    tokenizer = _build_unigram(dummy_prefix=True)
    tokenizer.model = BPE(
        {name: index for index, name in enumerate(dict.fromkeys(names))},
        [tuple(pair) for pair in model["merges"]],
        byte_fallback=True,
        fuse_unk=True,
        unk_token="<unk>",
    )
    return tokenizer


def build_metaspace(scheme: str) -> Tokenizer:
    """Metaspace before and after, whose prefix depends on the scheme."""
    vocab = [(token, 0.0) for token in SPECIAL]
    characters = sorted({c for text in (*JAPANESE, *ENGLISH) for c in text if c > " "})
    vocab += [(word, -float(12 - len(word))) for word in dict.fromkeys((*WORDS, *characters))]
    tokenizer = Tokenizer(Unigram(vocab, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    tokenizer.add_special_tokens(list(SPECIAL))
    _put_first(tokenizer, "<s>")
    return tokenizer


@cache
def _train_bytes() -> str:
    tokenizer = Tokenizer(BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator((*JAPANESE, *ENGLISH), trainer)
    trained: str = tokenizer.to_str()
    return trained


def build_byte_level() -> Tokenizer:
    """Llama 3's kind."""
    tokenizer = Tokenizer.from_str(_train_bytes())
    names = ("begin_of_text", "end_of_text", "start_header_id", "end_header_id", "eot_id")
    tokenizer.add_special_tokens([f"<|{name}|>" for name in names])
    _put_first(tokenizer, "<|begin_of_text|>")
    tokenizer.post_processor = Sequence([ByteLevel(trim_offsets=False), tokenizer.post_processor])
    return tokenizer


def build_gpt2() -> Tokenizer:
    """Byte level with a space before every text, and nothing around it."""
    tokenizer = Tokenizer.from_str(_train_bytes())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|eot_id|>"])
    tokenizer.post_processor = ByteLevel(trim_offsets=False)
    return tokenizer


def _put_first(tokenizer: Tokenizer, bos: str) -> None:
    bos_id = tokenizer.token_to_id(bos)
    tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, bos_id)]
    )


def _add_flagged(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_tokens(list(FLAGGED))
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "unigram with prefix": build_unigram_with_prefix,
    "unigram without prefix": build_unigram_without_prefix,
    "unigram without bos": build_without_bos,
    "llm-jp's order": build_llm_jp_order,
    "llama 2": build_llama2,
    "metaspace always": lambda: build_metaspace("always"),
    "metaspace first": lambda: build_metaspace("first"),
    "metaspace never": lambda: build_metaspace("never"),
    "byte level": build_byte_level,
    "byte level, GPT-2": build_gpt2,
    "unigram, flagged": lambda: _add_flagged(build_unigram_with_prefix()),
    "metaspace first, flagged": lambda: _add_flagged(build_metaspace("first")),
    "byte level, flagged": lambda: _add_flagged(build_byte_level()),
}


def write(folder: Path, kind: str, **config: object) -> Path:
    """Write a tokenizer's files; keywords go to tokenizer_config.json."""
    KINDS[kind]().save(str(folder / "tokenizer.json"))
    byte_level = kind.startswith("byte level")
    named = {
        "bos_token": "<|begin_of_text|>" if byte_level else "<s>",
        "eos_token": "<|eot_id|>" if byte_level else "</s>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(named | config, ensure_ascii=False), encoding="utf-8")
    return folder
