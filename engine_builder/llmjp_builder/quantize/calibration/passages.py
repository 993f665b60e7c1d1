"""Texts to calibrate on: the user's file, or the built-in ones.

A file is UTF-8 text. Passages are divided by lines that hold nothing but `%%`, so a passage may be
of any form, with blank lines in it; a file without any such line is divided at blank lines. The
passages are what the model reads, character by character: prompts are written out in the form of
the chat template, and special tokens (`</s>`) by their names. `<s>` comes with the tokenizer.
"""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING

from llmjp_builder.contracts.errors import BadTexts
from llmjp_builder.store.files import get_regular_file_size, os_errors

if TYPE_CHECKING:
    from pathlib import Path

DIVIDER = "%%"

_MAX_FILE_BYTES = 64 << 20
"""Hundreds of times what calibration needs; a larger file must be a mistake."""

_AT_DIVIDERS = re.compile(rf"^{DIVIDER}[ \t]*$", re.MULTILINE)
_AT_BLANK_LINES = re.compile(r"\n[ \t]*\n")


def read_passages(file: Path | None) -> tuple[str, ...]:
    """Return the passages of `file`, or the built-in ones, in order; at least one.

    Raises:
        BadTexts: the file is not UTF-8, has no passage, or is absurdly large.
        MissingFile: it is not there.
    """
    return read_built_in_passages() if file is None else _read_file(file)


def read_built_in_passages() -> tuple[str, ...]:
    """Read the built-in passages."""
    folder = resources.files(__package__) / "texts"
    files = sorted((file for file in folder.iterdir()), key=lambda file: file.name)
    return tuple(
        passage
        for file in files
        if file.name.endswith(".txt")
        for passage in split_passages(file.read_text(encoding="utf-8"))
    )


def split_passages(text: str) -> tuple[str, ...]:
    """Split a text into passages; line ends become LF, blank lines around a passage are dropped."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    rule = _AT_DIVIDERS if _AT_DIVIDERS.search(text) else _AT_BLANK_LINES
    return tuple(part.strip("\n") for part in rule.split(text) if part.strip())


def _read_file(file: Path) -> tuple[str, ...]:
    if (size := get_regular_file_size(file)) > _MAX_FILE_BYTES:
        raise BadTexts(
            f"{file}: {size:,} bytes are too many to calibrate on; a few hundred passages, "
            "up to a megabyte or two, are enough"
        )
    with os_errors(file):
        data = file.read_bytes()
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        raise BadTexts(
            f"{file}: not UTF-8: {exc.reason} at byte {exc.start}; save the texts as UTF-8"
        ) from exc
    if not (found := split_passages(text)):
        raise BadTexts(f"{file}: no text in it; expected passages separated by lines of {DIVIDER}")
    return found
