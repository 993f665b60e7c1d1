"""Greedy decoding of many prompts at once: batches of equal length, with a key-value cache."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import LlamaForCausalLM

EOS_ID = 2
MAX_NEW_TOKENS = 128
"""Longer than any answer that was trained."""


def penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Logits `[n, vocabulary]` after the repetition penalty for the ids `seen` `[n, length]`.

    The rule of Keskar et al. (CTRL, 2019) as `transformers` applies it: prompt and reply alike.
    """
    chosen = logits.gather(1, seen)
    return logits.scatter(1, seen, torch.where(chosen < 0, chosen * penalty, chosen / penalty))


@torch.inference_mode()
def greedy(
    model: LlamaForCausalLM, prompts: Sequence[Sequence[int]], *, penalty: float, batch: int
) -> list[list[int]]:
    """The reply ids to each prompt, in order, `</s>` left out."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        by_length[len(prompt)].append(index)
    replies: list[list[int]] = [[] for _ in prompts]
    for indexes in by_length.values():
        for start in range(0, len(indexes), batch):
            part = indexes[start : start + batch]
            ids = torch.tensor([list(prompts[i]) for i in part], device=model.device)
            for index, reply in zip(part, _decoded(model, ids, penalty), strict=True):
                replies[index] = reply
    return replies


def _decoded(model: LlamaForCausalLM, ids: Tensor, penalty: float) -> list[list[int]]:
    prompt_length, fed, cache = ids.shape[1], ids, None
    finished = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    for _ in range(MAX_NEW_TOKENS):
        output = model(input_ids=fed, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = output.past_key_values
        fed = penalised(output.logits[:, -1].float(), ids, penalty).argmax(1, keepdim=True)
        ids = torch.cat([ids, fed], dim=1)
        finished |= fed[:, 0] == EOS_ID
        if finished.all():
            break
    return [_until_end(row) for row in ids[:, prompt_length:].tolist()]


def _until_end(reply: list[int]) -> list[int]:
    return reply[: reply.index(EOS_ID)] if EOS_ID in reply else reply
