"""Inputs of `llmjp verify`: an artefact or a bare checkpoint, and its tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmjp_runtime.artefact import check_artefact
from llmjp_runtime.text.tokenizer import TextTokenizer
from llmjp_runtime.verify.errors import PromptsInvalid

if TYPE_CHECKING:
    from pathlib import Path


def load_tokenizer(checkpoint: Path, reference: Path) -> TextTokenizer:
    """Load the artefact's tokenizer; a bare checkpoint has none, so the reference's.

    Raises:
        ArtefactInvalid: an artefact of another kind than `ranks`, or with files missing or cut.
        PromptsInvalid: no tokenizer in either place.
        TextError: it cannot be used.
    """
    if (checkpoint / "manifest.json").is_file():
        check_artefact(checkpoint, "torch")
    for folder in (checkpoint / "tokenizer", reference):
        if (folder / "tokenizer.json").is_file():
            return TextTokenizer.load(folder)
    raise PromptsInvalid(
        f"no tokenizer.json in {checkpoint / 'tokenizer'} or {reference}: prompts are text"
    )
