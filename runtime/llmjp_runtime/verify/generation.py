"""Greedy replies of the reference, all texts together: each sweep reads every layer once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from llmjp_runtime.verify.reference import new_history

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmjp_runtime.verify.reference import Reference


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt, and how the reference continues it."""

    ids: tuple[int, ...]
    """Prompt and reply, without the reply's last id: that one follows from these."""
    num_prompt: int


@torch.inference_mode()
def continue_greedily(
    reference: Reference,
    prompts: Sequence[tuple[int, ...]],
    *,
    max_tokens: int,
    end_ids: frozenset[int],
    on_layer: Callable[[], None],
) -> list[Text]:
    """Return each prompt with the first `max_tokens` - 1 ids of its greedy reply, or fewer.

    Args:
        reference: the model.
        prompts: at least one id each.
        max_tokens: >= 1; 1 needs no sweep at all.
        end_ids: end a reply, and are not part of it.
        on_layer: called after each layer of each sweep.
    """
    num_layers = reference.files.config.num_hidden_layers
    histories = [[new_history() for _ in prompts] for _ in range(num_layers)]
    ids = [list(prompt) for prompt in prompts]
    new = dict(enumerate(map(list, prompts)))
    for _ in range(max_tokens - 1):
        if not new:
            break
        x, lengths = reference.embed(list(new.values())), [len(read) for read in new.values()]
        for index in range(num_layers):
            layer = reference.layer(index)
            x = x + layer.attend(x, lengths, [histories[index][i] for i in new])
            x = x + layer.feed_forward(x)
            on_layer()
        last = torch.tensor(lengths).cumsum(0) - 1
        chosen = reference.head()(x[last.to(x.device)]).argmax(-1).tolist()
        new = {i: [token] for i, token in zip(new, chosen, strict=True) if token not in end_ids}
        for i, (token,) in new.items():
            ids[i].append(token)
    return [Text(tuple(all_ids), len(prompt)) for all_ids, prompt in zip(ids, prompts, strict=True)]
