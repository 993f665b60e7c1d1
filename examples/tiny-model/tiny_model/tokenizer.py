"""A tokenizer with the pipeline of llm-jp-tokenizer v3.0, trained on the questions and answers.

The pipeline (normalizer, no pre-tokenizer, post-processor, decoder, special tokens, byte pieces)
follows llm-jp/llm-jp-tokenizer, tag v3.0b2, hf/ver3.0; the chat template is the prompt format of
the llm-jp-3 instruct models (llm-jp/instruct3, scripts/ckpt/convert_llama_nemo_to_hf.sh). The
pieces are our own. Emoji, newline and every kanji beyond JIS X 0208 level 1 get no piece: they are
spelled in bytes, as most of them are by the original.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    processors,
)

from . import unigram
from .qa import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

BOS, EOS, PAD = "<s>", "</s>", "<PAD|LLM-jp>"
SPECIAL_TOKENS = (
    "<unk>", BOS, EOS, "<MASK|LLM-jp>", PAD, "<CLS|LLM-jp>", "<SEP|LLM-jp>", "<EOD|LLM-jp>",
)  # fmt: skip
"""Ids 0 to 7."""
BYTE_PIECES = tuple(f"<0x{byte:02X}>" for byte in range(256))
"""Ids 8 to 263."""
CONTROL_SCORE = -127.5
SPACE = "▁"

NUM_PIECES = 4059
"""Fewer than the model's 4,096 rows: the last ones have no piece, as in the llm-jp-3 models."""

CHAT_TEMPLATE = (
    "{{bos_token}}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '\\n\\n### 指示:\\n' + message['content'] }}"
    f"{{% elif message['role'] == 'system' %}}{{{{ '{SYSTEM}' }}}}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '\\n\\n### 応答:\\n' + message['content'] + eos_token }}{% endif %}"
    "{% if loop.last and add_generation_prompt %}{{ '\\n\\n### 応答:\\n' }}{% endif %}{% endfor %}"
)
"""The prompt format of the model family, to the character: the model knows no other."""

_SINGLE = "0-9〇一二三四五六七八九十百千"
"""A numeral is always one piece of its own, so that sums can be learned digit by digit."""
_WORD = re.compile(
    rf"[{_SINGLE}]|#+|{SPACE}?[A-Za-z][A-Za-z'-]*|"
    rf"(?:(?![{_SINGLE}])[ァ-ヺー々一-鿿])+[ぁ-ゖ]*|[ぁ-ゖ]+|."
)
"""Japanese is cut before each word that begins in kanji or katakana."""


def has_piece(character: str) -> bool:
    """Whether the character may be (part of) a piece; the others are spelled in bytes."""
    if character == SPACE or "!" <= character <= "~":
        return True
    try:
        code = character.encode("euc_jp")
    except UnicodeEncodeError:
        return False
    # Rows 1 to 47 of JIS X 0208: symbols, kana, kanji of level 1.
    return len(code) == 2 and 0xA1 <= code[0] < 0xD0


def words(text: str) -> list[str]:
    """The stretches of `text` that pieces are learned from, without what has no piece."""
    kept = "".join(c if has_piece(c) else "\n" for c in text.replace(" ", SPACE))
    return _WORD.findall(kept)


def alphabet() -> list[str]:
    """Characters that get a piece whether or not the texts hold them: ASCII, kana, punctuation."""
    ascii_ = [chr(code) for code in range(0x21, 0x7F)]
    kana = [chr(code) for code in (*range(0x3041, 0x3094), *range(0x30A1, 0x30F7))]
    wide = [chr(code + 0xFEE0) for code in map(ord, "!?():,.%+-=")]
    marks = "、。・ー「」『』〜…々〇一二三四五六七八九十百千万円年"
    return [c for c in (SPACE, *ascii_, *kana, *wide, *marks) if has_piece(c)]


def learned_pieces(texts: Iterable[str], num_pieces: int) -> list[tuple[str, float]]:
    """Pieces and their scores (log probabilities), best first."""
    counts = Counter(word for text in texts for word in words(text))
    counts.update(dict.fromkeys(alphabet(), 1))
    # Square roots: the few sentences asked ten thousand times must not take all the pieces.
    found = unigram.learned({word: math.sqrt(n) for word, n in counts.items()}, num_pieces)
    rounded = ((piece, round(score, 4)) for piece, score in found.items())
    return sorted(rounded, key=lambda entry: (-entry[1], entry[0]))


def build(texts: Iterable[str]) -> Tokenizer:
    """The tokenizer for `texts`; the same texts give the same tokenizer."""
    control = [(token, CONTROL_SCORE) for token in (*SPECIAL_TOKENS, *BYTE_PIECES)]
    learned = learned_pieces(texts, NUM_PIECES - len(control))
    pieces = [*control, *learned]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(r"(?<!\n)^"), SPACE),
            normalizers.Replace(Regex(" "), SPACE),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS}:1 $B:1", special_tokens=[(BOS, 1)]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.ByteFallback(),
            decoders.Replace(Regex(SPACE), " "),
            decoders.Fuse(),
            decoders.Replace(Regex(r"(?<!\n)^ "), ""),
        ]
    )
    tokenizer.add_special_tokens(
        [AddedToken(t, normalized=False, special=True) for t in SPECIAL_TOKENS]
    )
    return tokenizer


def _special_tokens_map() -> dict[str, str]:
    unk, bos, eos, mask, pad, cls, sep, _ = SPECIAL_TOKENS
    return {
        "bos_token": bos,
        "cls_token": cls,
        "eod_token": eos,
        "eos_token": eos,
        "mask_token": mask,
        "pad_token": pad,
        "sep_token": sep,
        "unk_token": unk,
    }


def tokenizer_config() -> dict[str, Any]:
    """`tokenizer_config.json` with the keys and values the llm-jp-3 instruct models have."""
    return {
        "add_bos_token": True,
        "add_eos_token": False,
        **_special_tokens_map(),
        "chat_template": CHAT_TEMPLATE,
        "extra_ids": 0,
        "sp_model_kwargs": {},
        "model_max_length": 1000000000000000019884624838656,
        "clean_up_tokenization_spaces": False,
        "special_tokens_map_file": None,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def write(tokenizer: Tokenizer, folder: Path) -> None:
    """The three tokenizer files of a checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in (
        ("tokenizer_config.json", tokenizer_config()),
        ("special_tokens_map.json", _special_tokens_map()),
    ):
        text = json.dumps(content, ensure_ascii=False, indent=2)
        (folder / name).write_text(text + "\n", encoding="utf-8")
