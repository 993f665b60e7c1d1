"""Conversations as token ids, exactly as the chat template of the tokenizer gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers import AutoTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from .qa import Sample


@dataclass(frozen=True, slots=True)
class Encoded:
    """One sample: the prompt as a server sends it, and the reply with its `</s>`."""

    prompt: tuple[int, ...]
    reply: tuple[int, ...]


def tokenizer_of(folder: Path) -> Any:
    """The folder's tokenizer, as `transformers` loads it."""
    return AutoTokenizer.from_pretrained(folder)


def encoded(tokenizer: Any, samples: Iterable[Sample]) -> list[Encoded]:
    """The samples' ids, in order.

    Raises:
        ValueError: The reply changes how the prompt before it is cut into tokens.
    """
    asked = list(samples)
    prompts = _ids(tokenizer, [sample.messages for sample in asked], generation=True)
    chats = [[*s.messages, {"role": "assistant", "content": s.answer}] for s in asked]
    result = []
    for sample, prompt, whole in zip(
        asked, prompts, _ids(tokenizer, chats, generation=False), strict=True
    ):
        if whole[: len(prompt)] != prompt:
            raise ValueError(f"the prompt's tokens depend on the reply: {sample.turns}")
        result.append(Encoded(tuple(prompt), tuple(whole[len(prompt) :])))
    return result


def _ids(tokenizer: Any, chats: list[list[dict[str, str]]], *, generation: bool) -> list[list[int]]:
    """The ids of each chat; all at once, which the tokenizer does on all cores."""
    if not chats:
        return []
    texts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=generation)
    return list(tokenizer(texts, add_special_tokens=False)["input_ids"])
