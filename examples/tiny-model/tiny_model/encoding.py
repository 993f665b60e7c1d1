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
    result = []
    for sample in samples:
        reply = {"role": "assistant", "content": sample.answer}
        prompt = _ids(tokenizer, sample.messages, generation=True)
        whole = _ids(tokenizer, [*sample.messages, reply], generation=False)
        if whole[: len(prompt)] != prompt:
            raise ValueError(f"the prompt's tokens depend on the reply: {sample.turns}")
        result.append(Encoded(tuple(prompt), tuple(whole[len(prompt) :])))
    return result


def _ids(tokenizer: Any, messages: list[dict[str, str]], *, generation: bool) -> list[int]:
    ids = tokenizer.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=generation, return_dict=False
    )
    return [int(i) for i in ids]
