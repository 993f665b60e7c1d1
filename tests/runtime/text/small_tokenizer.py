"""A tokenizer of llm-jp's pipeline with all ids and names elsewhere.

The control pieces have good scores, as trainers give them, so that plain text is taken for them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

PAD, END, BEGIN, UNKNOWN, TURN = range(5)
CONTROL = ("<pad>", "<end>", "<begin>", "<unk>", "<turn>")
WORDS = ("▁", "▁▁", "こんにちは", "▁こん", "日本", "の", "a", "b", "<", ">", "▁a", "e", "n", "x")
FIRST_BYTE = len(CONTROL) + len(WORDS)

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<turn>{{ message['role'] }}\n"
    "{{ message['content'] }}{{ eos_token }}{% endfor %}<turn>assistant\n"
)

Object = dict[str, Any]


def pipeline() -> Object:
    """tokenizer.json. Byte 0x00 has the highest id."""
    vocab = [[token, 0.0] for token in CONTROL]
    vocab += [[word, -float(9 - len(word))] for word in WORDS]
    vocab += [[f"<0x{byte:02X}>", -20.0] for byte in reversed(range(256))]
    return {
        "version": "1.0",
        "truncation": {
            "direction": "Right",
            "max_length": 8,
            "strategy": "LongestFirst",
            "stride": 0,
        },
        "padding": None,
        "added_tokens": [
            {
                "id": i,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": i != TURN,
            }
            for i, token in enumerate(CONTROL)
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Replace", "pattern": {"Regex": r"(?<!\n)^"}, "content": "▁"},
                {"type": "Replace", "pattern": {"Regex": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "ByteFallback"},
                {"type": "Replace", "pattern": {"Regex": "▁"}, "content": " "},
                {"type": "Fuse"},
                {"type": "Replace", "pattern": {"Regex": r"(?<!\n)^ "}, "content": ""},
            ],
        },
        "model": {"type": "Unigram", "unk_id": UNKNOWN, "byte_fallback": True, "vocab": vocab},
    }


def config() -> Object:
    """tokenizer_config.json."""
    return {
        "bos_token": {"content": "<begin>", "lstrip": False},
        "eos_token": "<end>",
        "pad_token": "<pad>",
        "chat_template": TEMPLATE,
    }


def write(folder: Path, **files: object) -> Path:
    """The files in `folder`; a keyword (tokenizer, tokenizer_config, ...) replaces one."""
    contents: Object = {"tokenizer": pipeline(), "tokenizer_config": config()} | files
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def byte_id(byte: int) -> int:
    """The id of a byte token."""
    return FIRST_BYTE + 255 - byte
